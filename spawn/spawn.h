/*
 * spawn/spawn.h - the process that forks programs and helpers, so that the engine never does.
 */
#ifndef SPAWN_SPAWN_H
#define SPAWN_SPAWN_H

/*
 * The spawner's whole life, in a process that the monitor forked before any thread existed and
 * after it has dropped its privileges. fd is its end of a SOCK_SEQPACKET pair (work/proto.h); every
 * other descriptor but 0 to 2 is closed, so nothing can be logged from here: what happens is told
 * to the engine. When the engine's end closes it kills every process group it started, and exits.
 */
void spawn_main(int fd) __attribute__((noreturn));

#endif
