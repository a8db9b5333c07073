from dwalign.cli import script

script()
