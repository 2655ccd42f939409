"""The whole paper in one command: its four networks, and a page that holds its tables and figures beside ours."""
