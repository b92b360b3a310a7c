/*
 * proxy/monitor_private.h - what the monitor's files share: monitor.c has its life, monitor_engines.c the processes it
 * starts, monitor_reload.c the configuration, monitor_upgrade.c the change of the program.
 */
#ifndef PROXY_MONITOR_PRIVATE_H
#define PROXY_MONITOR_PRIVATE_H

#include <limits.h>
#include <unistd.h>

#include "proxy/config_watch.h"
#include "proxy/monitor.h"

/* We look round so often. */
#define TURN_MS 1000
/* Engines that finish what they have while another one is at work already. */
#define LEAVING_MAX (HANDOVER_ENGINES - 1)

struct proc {
	pid_t engine; /* 0: there is none */
	pid_t spawner;
	int fd; /* our end of its channel; its end of file tells it that we are gone */
	uint64_t started_ms, heard_ms;
	bool is_foreign; /* of the program that was here before: its packets may be of another form */
};

struct monitor {
	const struct monitor_args *args;
	struct config *config; /* in force */
	const struct settings *settings;
	unsigned generation;
	unsigned starts; /* of engines */
	struct sockets sockets;
	struct inherited inherited;
	char helper_path[PATH_MAX], program[PATH_MAX];
	int signal_fd;
	struct proc current; /* carries mail */
	struct proc next;    /* not ready yet */
	struct proc leaving[LEAVING_MAX];
	int leaving_count;
	bool wants_next; /* the current one is to be replaced */
	uint64_t restart_at; /* clock_ms; 0: none is due */
	uint64_t retire_at;  /* likewise: the spawner is gone */
	int64_t backoff_ms;
	struct config *pending; /* asked of the current engine, or what the next one begins with; NULL: no reload */
	int pending_from;	/* sockets from this one on are new with it */
	int pending_spool_fd;	/* likewise the lock of a spool elsewhere; -1: it stays where it is */
	int stale_count;	/* times in a row that the engine read something else */
	bool reload_again;
	struct config *watched; /* the files that were read last, good or bad */
	struct config_watch watch;
	uint64_t watched_ms;
	pid_t checker; /* looks whether the program on the disk would start; 0: none */
	int pid_fd;    /* of the pid file, locked; -1: none */
	char pid_file[PATH_MAX];
	int spool_fd;  /* locked */
	/* In another one's place: it cannot begin yet, so nothing of config and settings is there, and why it cannot, as
	 * it was told last. */
	bool is_waiting;
	char waits_for[sizeof(((struct err *)0)->text)];
	bool is_stopping;
	uint64_t kill_at; /* likewise, after a second request to stop: what has not ended by then */
	bool has_log; /* apart from stderr */
	int ready_fd; /* the process that started the daemon waits at its other end */
};

static inline void
close_some(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* ---- monitor.c ---- */

/* With m->config: what it asks for, and an engine that gets ready. The exit status if that cannot be. */
int begin(struct monitor *m, struct err *err);
int to_null(int fd);
void reset_signals(void);
/* Whoever started the daemon waits for the end of its output. */
void leave_terminal(const struct monitor *m);

/* ---- monitor_engines.c ---- */

/* In a child: what is the monitor's alone. */
void become_child(struct monitor *m);
/* m->next, which says READY when it is. */
int start_engine(struct monitor *m, struct config *config, struct err *err);
/* Another one is due. */
void restart(struct monitor *m);
/* As soon as may be; mail goes on until the new one is ready. */
void want_next(struct monitor *m);
/* Has a child ended? */
void reap(struct monitor *m);
/* What an engine has said. */
void hear(struct monitor *m, struct proc *p);
void look_at_engines(struct monitor *m);
/* It was told to end and may hang: a second more is all that it has to become ready. */
void hurry_next(struct monitor *m);
/* To the engine that carries mail, to the next, and to those that are on their way out. */
void tell_engines(const struct monitor *m, int sig);

/* ---- monitor_reload.c ---- */

/* Nothing has changed before all of it went well; if now is not the time, later. */
void reload(struct monitor *m);
/* It is in force; or it is not, and why (NULL: nothing is said). */
void commit_pending(struct monitor *m);
void keep_pending_spool(struct monitor *m);
void drop_pending(struct monitor *m, const char *why);
/* The engine has read something else, so both do it again; but not for ever. */
void read_anew(struct monitor *m, const char *why);
/* What stands in the files now is what is watched from now on. */
int read_again(struct monitor *m, struct config **config_r);
/* A folder that we have not got yet is only locked as well; keep_pending_spool() makes it ours. */
int prepare_folders(struct monitor *m, const struct settings *st, struct err *err);
void log_problems(const struct config *config);
/* How a start or a reload ended, for the service manager. */
void reload_over(struct monitor *m, const char *how);
void watch_files(struct monitor *m);

/* ---- monitor_upgrade.c ---- */

/* Would the program that is on the disk now start with the files there are now? If so it takes our place. */
void check_program(struct monitor *m);
/* It has said so, or not. */
void checked(struct monitor *m, int status);
/* We are the one that takes another's place. */
void take_place(struct monitor *m);
/* It begins, or waits: then call it again. */
void begin_in_place(struct monitor *m);

#endif
