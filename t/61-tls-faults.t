#!/usr/bin/perl
# What a back-end may do wrong goes wrong through TLS in the same way as in clear: the table of
# t/14-backend-faults.t, and what only TLS can do.
use strict;
use warnings;
use Certs;
use TestUtil;

my $certs = Certs->new;
my ($cert, $key) = $certs->make('server');

our %MORE_SINK = (tls => { cert => $cert, key => $key });
our $MORE_OPTIONS = 'tls verify; tls_ca ' . $certs->ca;
our $EHLO = 'ehlo_tls';
our $KINDS = qr{^(?:early, DATA|early, BDAT|late, pipelining, DATA)};
our $LANES = 4;
our @MORE_FAULTS = (
	['closes without a goodbye', 'unclean'],
	['says goodbye and stays', 'goodbye'],
	['says goodbye in the middle of its line', { raw => 'CODE 2.0.0 o', then => 'goodbye' }],
	['ends without a goodbye in the middle of its line', { raw => 'CODE 2.0.0 o', then => 'unclean' }],
	['ends behind the head of a record', { reply => 'CODE 2.0.0 ok', part => 5, then => 'unclean' }],
	['ends in the middle of a record', { reply => 'CODE 2.0.0 ok', part => 20, then => 'unclean' }],
	['is reset in the middle of a record', { reply => 'CODE 2.0.0 ok', part => 20, then => 'rst' }],
	['stops in the middle of a record', { reply => 'CODE 2.0.0 ok', part => 20, then => 'silent' }],
);
our %MORE_EARLY = (
	'closes without a goodbye' => 'unclean',
	'says goodbye' => 'goodbye',
);
# A record that has begun too early does not become an answer by its end.
our @MORE_CASES = map { [ "$_ octets of the record with the acceptance come early",
	{ body => { reply => '250 2.0.0 early', part => $_ }, final => { raw => '' } } ] } 1, 5, 6, 25;

my $file = srcdir() . '/t/14-backend-faults.t';
do($file =~ m{^/} ? $file : "./$file") or die $@ || $!;
