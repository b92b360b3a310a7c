/*
 * t/fuzz/fuzz_pin.c - pins: what is taken means one key, in whatever form it is written.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "net/tls.h"

#define MUST(x) ((x) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* In hexadecimal it is the same text, but for colons and case. */
static void
check_hex(const char *text, const unsigned char pin[NET_TLS_PIN_SIZE])
{
	char hex[2 * NET_TLS_PIN_SIZE + 1], bare[2 * NET_TLS_PIN_SIZE + 1];
	unsigned char again[NET_TLS_PIN_SIZE];
	size_t n = 0;
	struct err err;

	for (size_t i = 0; i < NET_TLS_PIN_SIZE; i++)
		snprintf(hex + 2 * i, 3, "%02x", pin[i]);
	MUST(net_tls_pin_parse(hex, again, &err) == 0);
	MUST(memcmp(pin, again, NET_TLS_PIN_SIZE) == 0);
	if (strlen(text) < 2 * NET_TLS_PIN_SIZE)
		return; /* base64 */
	for (; *text != '\0'; text++) {
		if (*text == ':')
			continue;
		MUST(n < sizeof(bare) - 1);
		bare[n++] = *text;
	}
	bare[n] = '\0';
	MUST(strcasecmp(bare, hex) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned char pin[NET_TLS_PIN_SIZE];
	char *text = malloc(size + 1);
	struct err err;

	MUST(text != NULL);
	memcpy(text, data, size);
	text[size] = '\0';
	if (net_tls_pin_parse(text, pin, &err) == 0)
		check_hex(text, pin);
	else
		MUST(err.text[0] != '\0');
	free(text);
	return 0;
}
