"""How far a run is, told to a user, a log file or another program."""
