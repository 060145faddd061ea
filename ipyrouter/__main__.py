"""`python -m ipyrouter` is the command `ipyrouter`."""

import sys

from ipyrouter.cli import main

sys.exit(main())
