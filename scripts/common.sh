# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# What the scripts share: where things are, and how they speak.
# Sourced, never run.

# shellcheck disable=SC2034 # used by those who source this file
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# All that is downloaded lives outside the checkout, so that a second clone is quick.
CACHE=${NETMAP_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/netmap-rs}
# The environment: a Debian 13 tree that is entered with chroot.
# shellcheck disable=SC2034
ENV_ROOT=$CACHE/trixie

# The supported kernel series, newest first: the one place that states the range.
# shellcheck disable=SC2034
KERNEL_SERIES="7.3 7.2"

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# locked NAME CMD...: run CMD while no other run on this machine holds NAME.
locked() {
	local name=$1 fd
	shift
	mkdir -p "$CACHE"
	exec {fd}>"$CACHE/$name.lock"
	if ! flock -n "$fd"; then
		say "waiting for another run that prepares the $name"
		flock "$fd"
	fi
	"$@"
	exec {fd}>&-
}
