import sys

from dwalign.cli import main

sys.exit(main())
