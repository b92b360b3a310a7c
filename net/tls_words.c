/*
 * net/tls_words.c - why TLS failed: in OpenSSL's words for the log, in ours for the other side.
 */
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/list.h"
#include "net/tls_private.h"

/* What OpenSSL says of a file without a certificate, and of one without a key. */
static bool
is_no_pem(unsigned long error)
{
	const int reason = ERR_GET_REASON(error);

	return (ERR_GET_LIB(error) == ERR_LIB_PEM && reason == PEM_R_NO_START_LINE) ||
	       (ERR_GET_LIB(error) == ERR_LIB_OSSL_DECODER && reason == ERR_R_UNSUPPORTED);
}

/* A key of another kind than the certificate's finds none at all. */
static bool
is_other_key(unsigned long error)
{
	const int lib = ERR_GET_LIB(error), reason = ERR_GET_REASON(error);

	return (lib == ERR_LIB_X509 && (reason == X509_R_KEY_VALUES_MISMATCH || reason == X509_R_KEY_TYPE_MISMATCH)) ||
	       (lib == ERR_LIB_SSL && reason == SSL_R_NO_CERTIFICATE_ASSIGNED);
}

const char *
tls_reason(char *dst, size_t size)
{
	const unsigned long error = ERR_peek_error();
	const char *words = error != 0 ? ERR_reason_error_string(error) : NULL;

	snprintf(dst, size, "%s", words != NULL ? words : "unknown error");
	if (is_no_pem(error))
		snprintf(dst, size, "it holds none in PEM form");
	if (is_other_key(error))
		snprintf(dst, size, "it does not belong to the certificate");
	ERR_clear_error();
	return dst;
}

static const char not_trusted[] = "its certificate is not signed by an authority that is trusted here";
static const char other_name[] = "its certificate is for another name";
static const char no_version[] = "no TLS version in common";
static const char no_tls[] = "it does not speak TLS";
/* The alert that says least: it stands for either. */
static const char refused[] = "it refused the handshake (no cipher in common, or a certificate is missing)";
static const char refused_ours[] = "it refused our certificate, or ours is missing";

static const struct {
	long verify;
	const char *words;
} verify_words[] = {
	{ X509_V_ERR_CERT_HAS_EXPIRED, "its certificate has expired" },
	{ X509_V_ERR_CERT_NOT_YET_VALID, "its certificate is not valid yet" },
	{ X509_V_ERR_CERT_REVOKED, "its certificate was revoked" },
	{ X509_V_ERR_HOSTNAME_MISMATCH, other_name },
	{ X509_V_ERR_IP_ADDRESS_MISMATCH, other_name },
	{ X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, not_trusted },
	{ X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, not_trusted },
	{ X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, not_trusted },
	{ X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, not_trusted },
	{ X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, not_trusted },
};

static const struct {
	int reason;
	const char *words;
} reason_words[] = {
	{ SSL_R_UNSUPPORTED_PROTOCOL, no_version },
	{ SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, no_version },
	{ SSL_R_VERSION_TOO_LOW, no_version },
	{ SSL_R_WRONG_SSL_VERSION, no_version },
	{ SSL_R_NO_SHARED_CIPHER, "no cipher in common" },
	{ SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE, refused },
	{ SSL_R_WRONG_VERSION_NUMBER, no_tls },
	{ SSL_R_HTTP_REQUEST, no_tls },
	{ SSL_R_HTTPS_PROXY_REQUEST, no_tls },
	{ SSL_R_PACKET_LENGTH_TOO_LONG, no_tls },
	{ SSL_R_BAD_PACKET_LENGTH, no_tls },
	{ SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, "it gave no certificate" },
	{ SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, refused_ours },
	{ SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED, refused_ours },
	{ SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED, refused_ours },
	{ SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN, refused_ours },
	{ SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE, refused_ours },
	{ SSL_R_TLSV1_ALERT_UNKNOWN_CA, refused_ours },
	{ SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED, refused_ours },
};

const char *
tls_phrase(unsigned long error, long verify)
{
	if (verify != X509_V_OK && (error == 0 || ERR_GET_REASON(error) == SSL_R_CERTIFICATE_VERIFY_FAILED)) {
		for (size_t i = 0; i < ARRAY_COUNT(verify_words); i++)
			if (verify_words[i].verify == verify)
				return verify_words[i].words;
		return "its certificate is not accepted";
	}
	if (ERR_GET_LIB(error) == ERR_LIB_SSL)
		for (size_t i = 0; i < ARRAY_COUNT(reason_words); i++)
			if (reason_words[i].reason == ERR_GET_REASON(error))
				return reason_words[i].words;
	return "a TLS protocol error";
}
