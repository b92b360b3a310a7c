/*
 * proxy/channel.h - what monitor and engine say to each other: small packets over SOCK_SEQPACKET.
 *
 * The other side's end tells that it is gone. Both run the same program, so a packet is a struct.
 */
#ifndef PROXY_CHANNEL_H
#define PROXY_CHANNEL_H

#include <stdbool.h>
#include <stdint.h>

enum channel_kind {
	/* From the monitor. A socket comes before the reload that names it. */
	CHANNEL_SOCKET, /* text: its key; with a descriptor */
	CHANNEL_RELOAD, /* generation, digest */
	CHANNEL_KEPT,	/* a reload has failed; for who asks for our health */
	/* From the engine. */
	CHANNEL_READY,	  /* the port answers */
	CHANNEL_BEAT,	  /* lives; once a second */
	CHANNEL_STUCK,	  /* text: the worker that does not turn */
	CHANNEL_RELOADED, /* generation */
	CHANNEL_STALE,	  /* generation; text: why what it has read is not what the monitor had */
	CHANNEL_REFUSED,  /* generation; text: why */
};

struct channel_packet {
	uint32_t kind;
	uint32_t generation;
	uint64_t digest;
	char text[500];
	int fd; /* received: -1 when there was none */
};

/* Two ends, close-on-exec. -1 with errno. */
int channel_pair(int fds_r[2]);
/* A packet of few words. text may be NULL, fd -1. False: the other side does not take it. */
bool channel_send(int channel, const struct channel_packet *packet);
/* 1: a packet; 0: none is there now; -1: the other side is gone. Never waits. */
int channel_receive(int channel, struct channel_packet *packet_r);

#endif
