/*
 * net/reason.c - the words for an errno as they stand in our messages.
 */
#include "net/reason.h"

#include <errno.h>
#include <string.h>

#include "base/list.h"

static const struct {
	int errnum;
	const char *words;
} reasons[] = {
	{EACCES, "permission denied"},
	{EADDRINUSE, "address already in use"},
	{EADDRNOTAVAIL, "address not available"},
	{EAFNOSUPPORT, "address family not supported"},
	{EAGAIN, "the listener's queue is full"},
	{ECONNABORTED, "connection aborted"},
	{ECONNREFUSED, "connection refused"},
	{ECONNRESET, "connection reset by peer"},
	{EHOSTUNREACH, "no route to host"},
	{EMFILE, "too many open files in this process"},
	{ENETUNREACH, "network is unreachable"},
	{ENFILE, "too many open files in the system"},
	{ENOBUFS, "no buffer space left"},
	{ENOENT, "no such file or directory"},
	{ENOMEM, "out of memory"},
	{EPERM, "operation not permitted"},
	{EPIPE, "connection closed by peer"},
	{ETIMEDOUT, "connection timed out"},
};

const char *
net_reason(int errnum)
{
	const char *words;

	for (size_t i = 0; i < ARRAY_COUNT(reasons); i++)
		if (reasons[i].errnum == errnum)
			return reasons[i].words;
	words = strerrordesc_np(errnum);
	return words != NULL ? words : "unknown error";
}
