from pneumojax.data.audit import main

main()
