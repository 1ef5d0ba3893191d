#!/bin/sh
# Takes the place of the Python that runs Streamlit: does as $PRETEND says, in the folder that the gate runs in.
#
#   (nothing)  runs until it is told to stop
#   starting   the same, with two processes of its own: one as they are, one that does not heed SIGTERM
#   stubborn   the same, and does not heed SIGTERM itself
#   bare       is a Python without Streamlit, or anything else that is not Python's own
#   ending     the same as `starting`, and ends with 7 once there is a file `end`
set -eu

[ "${PRETEND:-}" != bare ] || exec python3 -S "$@"
[ "${3:-}" != --check ] || exit 0

env >environment

if [ -n "${PRETEND:-}" ]; then
  sleep 100 &
  echo $! >children.new
  (trap '' TERM && exec sleep 100) &
  echo $! >>children.new
  # Their traps are set before anyone looks.
  sleep 0.1
  mv children.new children
fi

case ${PRETEND:-} in
  stubborn) trap '' TERM ;;
  *) trap 'exit 0' TERM ;;
esac
touch started
# Not longer than the gate, which a test that fails kills.
while [ ! -e end ]; do kill -0 "$FRESHGATE_GATE_PID" 2>/dev/null || exit 0; sleep 0.05; done
exit 7
