/*
 * work/program.c - client of the spawner: what is asked, what is under way, what came back.
 *
 * Any worker sends (a packet is whole or not at all); the admin worker alone receives. A struct
 * program belongs to its worker: only there it is touched, but for what the lock guards, and only
 * there freed, when the post that says its end has been run.
 */
#include "work/program.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/list.h"
#include "base/log.h"
#include "base/str.h"
#include "base/xalloc.h"

/* What the socket did not take yet. */
struct packet {
	struct str data;
	int fds[WORK_FDS_MAX];
	size_t fd_count;
	uint32_t id; /* the program it is about */
	STAILQ_ENTRY(packet) next;
};

struct program_client {
	struct net_worker *admin;
	int fd;
	struct event *readable, *writable;
	void (*lost)(void *owner);
	void *owner;

	pthread_mutex_t lock; /* guards all below, and the part of each program that says so */
	uint32_t last_id;
	bool is_lost, is_freed;
	bool wants_posted; /* want_writable() is on its way */
	STAILQ_HEAD(, packet) packets;
	LIST_HEAD(, program) programs;
};

struct program {
	struct program_client *client; /* NULL: freed before us */
	struct net_worker *worker;
	uint32_t id;
	program_end_cb cb; /* NULL: cancelled */
	void *owner;
	char name[64];
	int64_t grace_ms;
	struct net_timer timer; /* first the timeout, then the grace */
	bool is_stopping, timed_out;
	pid_t pid;

	/* under the client's lock */
	unsigned posts; /* on their way to the worker */
	bool is_over;
	pid_t started_pid;
	struct program_end end;
	LIST_ENTRY(program) next;
};

static const char *const default_env[] = {"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C", NULL};

static void
packet_free(struct packet *p)
{
	for (size_t i = 0; i < p->fd_count; i++)
		close(p->fds[i]);
	str_deinit(&p->data);
	free(p);
}

/* 1: gone out; 0: the socket is full; -1: it can never be sent. */
static int
send_packet(int fd, const struct packet *p)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int) * WORK_FDS_MAX)];
	} control = {.space = {0}};
	struct iovec iov = {p->data.data, p->data.len};
	struct msghdr hdr = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	if (p->fd_count > 0) {
		struct cmsghdr *c = &control.align;

		hdr.msg_control = control.space;
		hdr.msg_controllen = CMSG_SPACE(sizeof(int) * p->fd_count);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * p->fd_count);
		memcpy(CMSG_DATA(c), p->fds, sizeof(int) * p->fd_count);
	}
	do
		n = sendmsg(fd, &hdr, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return 1;
	return errno == EAGAIN ? 0 : -1;
}

static void run_over(void *arg);

/* Lock held. */
static void
post_over(struct program *p)
{
	if (p->is_over)
		return;
	p->is_over = true;
	p->posts++;
	net_post(p->worker, run_over, p);
}

/* Lock held. A program whose end is on its way is not found any more. */
static struct program *
find_program(struct program_client *client, uint32_t id)
{
	struct program *p;

	LIST_FOREACH(p, &client->programs, next)
	if (p->id == id && !p->is_over)
		return p;
	return NULL;
}

/* Lock held. What was to be sent about it cannot be sent. */
static void
fail_program(struct program_client *client, uint32_t id)
{
	struct program *p = find_program(client, id);

	if (p == NULL)
		return;
	p->end.ran = false;
	err_set_temp(&p->end.err, "the spawner does not take the message");
	post_over(p);
}

/* Lock held. Returns whether something still waits. */
static bool
flush_packets(struct program_client *client)
{
	struct packet *p;

	while ((p = STAILQ_FIRST(&client->packets)) != NULL) {
		int rc = client->is_lost ? -1 : send_packet(client->fd, p);

		if (rc == 0)
			return true;
		if (rc < 0)
			fail_program(client, p->id);
		STAILQ_REMOVE_HEAD(&client->packets, next);
		packet_free(p);
	}
	return false;
}

static void
want_writable(void *arg)
{
	struct program_client *client = arg;

	if (client->is_freed) {
		free(client);
		return;
	}
	pthread_mutex_lock(&client->lock);
	client->wants_posted = false;
	pthread_mutex_unlock(&client->lock);
	event_add(client->writable, NULL);
}

static void
got_writable(evutil_socket_t fd, short what, void *arg)
{
	struct program_client *client = arg;
	bool waits;

	(void)fd;
	(void)what;
	pthread_mutex_lock(&client->lock);
	waits = flush_packets(client);
	pthread_mutex_unlock(&client->lock);
	if (waits)
		event_add(client->writable, NULL);
}

/* Lock held. Takes over p. */
static void
queue_packet(struct program_client *client, struct packet *p)
{
	bool was_empty = STAILQ_EMPTY(&client->packets);

	STAILQ_INSERT_TAIL(&client->packets, p, next);
	if (was_empty && flush_packets(client) && !client->wants_posted) {
		client->wants_posted = true;
		net_post(client->admin, want_writable, client);
	}
}

static void
send_kill(struct program *p, int sig)
{
	const struct work_message msg = {.type = WORK_KILL, .id = p->id, .value = sig};
	struct packet *packet;
	struct err err;

	if (p->client == NULL)
		return;
	packet = xcalloc(1, sizeof(*packet));
	packet->id = p->id;
	if (work_message_encode(&packet->data, &msg, &err) < 0)
		abort();
	pthread_mutex_lock(&p->client->lock);
	queue_packet(p->client, packet);
	pthread_mutex_unlock(&p->client->lock);
}

static void
program_free(struct program *p)
{
	net_timer_deinit(&p->timer);
	free(p);
}

static void
run_started(void *arg)
{
	struct program *p = arg;

	if (p->client == NULL) {
		if (--p->posts == 0)
			free(p);
		return;
	}
	pthread_mutex_lock(&p->client->lock);
	p->posts--;
	p->pid = p->started_pid;
	pthread_mutex_unlock(&p->client->lock);
	log_debug(NULL, "program", "name=%s id=%u pid=%d", p->name, (unsigned)p->id, (int)p->pid);
}

/* The last post of a program. */
static void
run_over(void *arg)
{
	struct program *p = arg;
	struct program_end end;

	if (p->client == NULL) {
		if (--p->posts == 0)
			free(p);
		return;
	}
	pthread_mutex_lock(&p->client->lock);
	LIST_REMOVE(p, next);
	end = p->end;
	pthread_mutex_unlock(&p->client->lock);
	end.timed_out = p->timed_out;
	if (p->cb != NULL)
		p->cb(p->owner, &end);
	program_free(p);
}

/* Lock held. */
static void
take_news(struct program *p, const struct work_message *msg)
{
	switch (msg->type) {
	case WORK_STARTED:
		p->started_pid = msg->value;
		p->end.ran = true;
		p->posts++;
		net_post(p->worker, run_started, p);
		break;
	case WORK_FAILED:
		errno = msg->value;
		err_sys(&p->end.err, "%s", p->name);
		p->end.err.temporary = true;
		post_over(p);
		break;
	case WORK_EXITED:
		p->end.ran = true;
		p->end.status = msg->value;
		post_over(p);
		break;
	default:
		break;
	}
}

static void
client_lost(struct program_client *client)
{
	struct program *p;

	event_del(client->readable);
	event_del(client->writable);
	pthread_mutex_lock(&client->lock);
	client->is_lost = true;
	flush_packets(client);
	LIST_FOREACH(p, &client->programs, next)
	if (!p->is_over) {
		p->end.ran = false;
		err_set_temp(&p->end.err, "the spawner is gone");
		post_over(p);
	}
	pthread_mutex_unlock(&client->lock);
	log_error(NULL, "spawner", "err=%s", "the spawner is gone");
	if (client->lost != NULL)
		client->lost(client->owner);
}

static void
got_packet(evutil_socket_t fd, short what, void *arg)
{
	struct program_client *client = arg;
	struct work_message msg;
	struct program *p;
	struct err err;
	char data[256]; /* what the spawner says is short */
	ssize_t n = recv(fd, data, sizeof(data), MSG_DONTWAIT);

	(void)what;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		client_lost(client);
		return;
	}
	if (work_message_decode(data, (size_t)n, &msg, &err) < 0) {
		log_error(NULL, "spawner", "err=%s", err.text);
		return;
	}
	pthread_mutex_lock(&client->lock);
	p = find_program(client, msg.id);
	if (p != NULL)
		take_news(p, &msg);
	pthread_mutex_unlock(&client->lock);
}

static void
drop_packets(struct program_client *client)
{
	struct packet *p;

	while ((p = STAILQ_FIRST(&client->packets)) != NULL) {
		STAILQ_REMOVE_HEAD(&client->packets, next);
		packet_free(p);
	}
}

struct program_client *
program_client_new(struct net_worker *admin, int fd, void (*lost)(void *owner), void *owner)
{
	struct program_client *client = xcalloc(1, sizeof(*client));
	struct event_base *base = net_worker_base(admin);

	client->admin = admin;
	client->fd = fd;
	client->lost = lost;
	client->owner = owner;
	pthread_mutex_init(&client->lock, NULL);
	STAILQ_INIT(&client->packets);
	LIST_INIT(&client->programs);
	client->readable = event_new(base, fd, EV_READ | EV_PERSIST, got_packet, client);
	client->writable = event_new(base, fd, EV_WRITE, got_writable, client);
	if (client->readable == NULL || client->writable == NULL)
		abort();
	event_add(client->readable, NULL);
	return client;
}

void
program_client_free(struct program_client **client_p)
{
	struct program_client *client = *client_p;
	struct program *p, *next;

	*client_p = NULL;
	if (client == NULL)
		return;
	drop_packets(client);
	LIST_FOREACH_SAFE(p, &client->programs, next, next)
	{
		net_timer_deinit(&p->timer);
		p->client = NULL;
		p->cb = NULL;
		/* A worker runs its left-over posts when it is freed. */
		if (p->posts == 0)
			free(p);
	}
	event_free(client->readable);
	event_free(client->writable);
	close(client->fd);
	pthread_mutex_destroy(&client->lock);
	client->is_freed = true;
	if (!client->wants_posted)
		free(client);
}

/* timer: the timeout passed, or the grace after TERM. */
static void
time_is_up(void *arg)
{
	struct program *p = arg;

	if (p->is_stopping) {
		send_kill(p, SIGKILL);
		return;
	}
	p->timed_out = true;
	program_stop(p);
}

void
program_stop(struct program *p)
{
	if (p->is_stopping)
		return;
	p->is_stopping = true;
	net_timer_clear(&p->timer);
	if (p->grace_ms <= 0) {
		send_kill(p, SIGKILL);
		return;
	}
	send_kill(p, SIGTERM);
	net_timer_set(&p->timer, p->grace_ms);
}

void
program_cancel(struct program **p_p)
{
	struct program *p = *p_p;

	*p_p = NULL;
	if (p == NULL)
		return;
	p->cb = NULL;
	program_stop(p);
}

pid_t
program_pid(const struct program *p)
{
	return p->pid;
}

/* Copies pointers only: they are used before the caller's spec ends. */
static int
copy_texts(const char **dst, const char *const *src, size_t max, struct err *err)
{
	size_t count;

	for (count = 0; src[count] != NULL; count++) {
		if (count == max)
			return err_set(err, "more than %zu arguments or variables", max);
		dst[count] = src[count];
	}
	dst[count] = NULL;
	return 0;
}

static int
encode_spawn(
	const struct program *p, const struct program_spec *spec, struct str *out, struct err *err)
{
	struct work_message msg = {.type = WORK_SPAWN, .id = p->id};
	struct work_spawn *s = &msg.spawn;

	s->profile = spec->profile;
	s->limits = spec->limits;
	s->directory = spec->directory != NULL ? spec->directory : "";
	s->target_count = spec->fd_count;
	for (size_t i = 0; i < spec->fd_count; i++)
		s->targets[i] = spec->targets[i];
	if (copy_texts(s->argv, spec->argv, WORK_ARGV_MAX, err) < 0 ||
		copy_texts(s->env, spec->env != NULL ? spec->env : default_env, WORK_ENV_MAX, err) <
			0)
		return -1;
	return work_message_encode(out, &msg, err);
}

static void
send_spawn(struct program *p, const struct program_spec *spec)
{
	struct packet *packet = xcalloc(1, sizeof(*packet));
	struct program_client *client = p->client;
	struct err err;
	bool bad;

	packet->id = p->id;
	packet->fd_count = spec->fd_count;
	for (size_t i = 0; i < spec->fd_count; i++)
		packet->fds[i] = spec->fds[i];
	bad = encode_spawn(p, spec, &packet->data, &err) < 0;
	pthread_mutex_lock(&client->lock);
	if (!bad && client->is_lost)
		bad = err_set_temp(&err, "the spawner is gone") < 0;
	if (bad) {
		p->end.err = err;
		post_over(p);
		packet_free(packet);
	} else {
		queue_packet(client, packet);
	}
	pthread_mutex_unlock(&client->lock);
}

static const char *
base_name(const char *path)
{
	const char *slash = path != NULL ? strrchr(path, '/') : NULL;

	return slash != NULL ? slash + 1 : path;
}

struct program *
program_start(struct program_client *client, struct net_worker *w, const struct program_spec *spec,
	program_end_cb cb, void *owner)
{
	struct program *p = xcalloc(1, sizeof(*p));

	assert(spec->fd_count <= WORK_FDS_MAX && spec->argv[0] != NULL);
	p->client = client;
	p->worker = w;
	p->cb = cb;
	p->owner = owner;
	p->grace_ms = spec->grace_ms;
	snprintf(p->name, sizeof(p->name), "%s", base_name(spec->argv[0]));
	net_timer_init(&p->timer, w, time_is_up, p);
	pthread_mutex_lock(&client->lock);
	do
		p->id = ++client->last_id;
	while (p->id == 0 || find_program(client, p->id) != NULL);
	LIST_INSERT_HEAD(&client->programs, p, next);
	pthread_mutex_unlock(&client->lock);
	if (spec->timeout_ms > 0)
		net_timer_set(&p->timer, spec->timeout_ms);
	send_spawn(p, spec);
	return p;
}

void
program_end_text(const struct program_end *end, char *dst, size_t size)
{
	if (!end->ran)
		snprintf(dst, size, "not started: %s", end->err.text);
	else if (WIFSIGNALED(end->status))
		snprintf(dst, size, "signal %d%s", WTERMSIG(end->status),
			end->timed_out ? " (too late)" : "");
	else
		snprintf(dst, size, "exit status %d", WEXITSTATUS(end->status));
}
