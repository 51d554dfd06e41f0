"""The subcommands of the `stopper` program, one file each."""
