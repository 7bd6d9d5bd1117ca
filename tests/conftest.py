"""The same surroundings for all tests, however they are started."""

import signal

# nohup and some runners have it ignored; what the tests start would inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
