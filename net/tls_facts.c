/*
 * net/tls_facts.c - reading a certificate to tell about it.
 */
#include "net/tls_facts.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

static X509 *
read_cert(const char *file)
{
	BIO *in = BIO_new_file(file, "r");
	X509 *cert = in != NULL ? PEM_read_bio_X509_AUX(in, NULL, NULL, NULL) : NULL;

	BIO_free(in);
	ERR_clear_error();
	return cert;
}

static void
add_name(struct net_tls_facts *f, const char *name, size_t len)
{
	size_t used = strlen(f->names);

	if (used + len + 3 < sizeof(f->names))
		snprintf(f->names + used, sizeof(f->names) - used, "%s%.*s", used > 0 ? ", " : "", (int)len, name);
}

static void
add_common_name(struct net_tls_facts *f, const X509 *cert)
{
	char name[200];
	int len = X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, name, sizeof(name));

	if (len > 0)
		add_name(f, name, (size_t)len);
}

static void
add_names(struct net_tls_facts *f, const X509 *cert)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		if (name->type == GEN_DNS)
			add_name(f, (const char *)ASN1_STRING_get0_data(name->d.dNSName),
				(size_t)ASN1_STRING_length(name->d.dNSName));
	}
	GENERAL_NAMES_free(names);
	if (f->names[0] == '\0')
		add_common_name(f, cert);
}

int
net_tls_facts(const char *file, struct net_tls_facts *facts_r)
{
	X509 *cert = read_cert(file);
	struct tm until;
	int days = 0, seconds = 0;

	*facts_r = (struct net_tls_facts){ .is_valid_yet = true };
	if (cert == NULL)
		return -1;
	if (ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(cert)) == 1)
		facts_r->days_left = seconds < 0 ? days - 1 : days;
	facts_r->is_valid_yet = X509_cmp_current_time(X509_get0_notBefore(cert)) < 0;
	if (ASN1_TIME_to_tm(X509_get0_notAfter(cert), &until) == 1)
		strftime(facts_r->until, sizeof(facts_r->until), "%Y-%m-%d", &until);
	add_names(facts_r, cert);
	X509_free(cert);
	ERR_clear_error();
	return 0;
}

bool
net_tls_file_has_name(const char *file, const char *name)
{
	X509 *cert = read_cert(file);
	bool has = cert != NULL && X509_check_host(cert, name, 0, 0, NULL) == 1;

	X509_free(cert);
	ERR_clear_error();
	return has;
}
