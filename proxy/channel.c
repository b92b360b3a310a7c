/*
 * proxy/channel.c - packets between monitor and engine.
 */
#include "proxy/channel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

int
channel_pair(int fds_r[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds_r);
}

/* Room for one descriptor. */
union control {
	struct cmsghdr align;
	char octets[CMSG_SPACE(sizeof(int))];
};

bool
channel_send(int channel, const struct channel_packet *packet)
{
	struct iovec iov = { (void *)packet, sizeof(*packet) };
	union control control = { .octets = "" };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *head;

	if (packet->kind == CHANNEL_SOCKET) {
		msg.msg_control = control.octets;
		msg.msg_controllen = sizeof(control.octets);
		head = CMSG_FIRSTHDR(&msg);
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(head), &packet->fd, sizeof(int));
	}
	return sendmsg(channel, &msg, MSG_NOSIGNAL) == (ssize_t)sizeof(*packet);
}

static int
received_fd(struct msghdr *msg)
{
	const struct cmsghdr *head = CMSG_FIRSTHDR(msg);
	int fd = -1;

	if (head != NULL && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(head), sizeof(fd));
	return fd;
}

int
channel_receive(int channel, struct channel_packet *packet_r)
{
	struct iovec iov = { packet_r, sizeof(*packet_r) };
	union control control;
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.octets,
		.msg_controllen = sizeof(control.octets) };
	ssize_t n = recvmsg(channel, &msg, MSG_CMSG_CLOEXEC);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n != (ssize_t)sizeof(*packet_r))
		return -1;
	packet_r->fd = received_fd(&msg);
	packet_r->text[sizeof(packet_r->text) - 1] = '\0';
	return 1;
}
