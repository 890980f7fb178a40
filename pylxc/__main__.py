"""``python -m pylxc`` is the command ``pylxc``."""

import sys

from pylxc.cli import command

if __name__ == "__main__":
    sys.exit(command())
