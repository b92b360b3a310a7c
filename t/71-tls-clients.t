#!/usr/bin/perl
# TLS with clients that others have written: openssl s_client, swaks, posttls-finger.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use Certs;
use TestProxy;
use TestUtil;

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR};

my $certs = Certs->new;
my ($cert, $key) = $certs->make('server');
my ($rsa_cert, $rsa_key) = $certs->make('rsa', type => 'rsa');
my $ca = $certs->ca;

my $proxy = TestProxy->start(<<"CONF");
hostname gate.example
listener front { listen 127.0.0.1:0; backend inner; tls { certificate $cert; key $key } }
listener rsa   { listen 127.0.0.1:0; backend inner; starttls require; tls { certificate $rsa_cert; key $rsa_key } }
listener smtps { listen 127.0.0.1:0; backend inner; implicit_tls yes; tls { certificate $cert; key $key } }
backend inner { discard yes }
CONF

# Where is it? Programs of administrators are not always on the path.
sub program
{
	my ($name) = @_;
	my ($found) = grep { -x } map { "$_/$name" } split(/:/, $ENV{PATH}), qw(/usr/sbin /usr/local/sbin);

	return $found;
}

# Runs a command with this input; its output and whether it was content.
sub run
{
	my ($command, $input) = @_;
	my $dir = temp_dir();

	write_file("$dir/in", $input // '');
	my $out = `timeout 60 $command <$dir/in 2>&1`;
	return ($out, $? == 0);
}

subtest 'openssl s_client' => sub {
	for my $case ([ 'front', '-starttls smtp -tls1_3' ], [ 'front', '-starttls smtp -tls1_2' ],
		[ 'rsa', '-starttls smtp -tls1_3' ], [ 'rsa', '-starttls smtp -tls1_2' ], [ 'smtps', '-tls1_3' ], [ 'smtps', '-tls1_2' ]) {
		my ($listener, $args) = @$case;
		my ($out, $ok) = run("openssl s_client -connect @{[ $proxy->addr($listener) ]} -servername localhost -CAfile $ca "
			. "-verify_return_error -verify_hostname localhost -crlf -ign_eof -quiet $args", "QUIT\n");
		ok($ok, "$listener, $args: is content") or diag $out;
		like($out, qr/^221 2\.0\.0 gate\.example/m, 'says its QUIT');
	}
	my ($out, $ok) = run("openssl s_client -connect @{[ $proxy->addr('front') ]} -starttls smtp -tls1_1 -cipher DEFAULT:\@SECLEVEL=0",
		"QUIT\n");
	ok(!$ok, 'TLS 1.1 is not possible') or diag $out;
};

subtest 'swaks' => sub {
	plan skip_all => 'is not installed' unless program('swaks');
	for my $case ([ 'front', '--tls' ], [ 'rsa', '--tls' ], [ 'smtps', '--tls-on-connect' ],
		[ 'front', '--tls --pipeline' ]) {
		my ($listener, $args) = @$case;
		my ($host, $port) = split /:/, $proxy->addr($listener);
		my ($out, $ok) = run("swaks --server $host --port $port --from a\@example.net --to b\@example.org "
			. "--ehlo client.example $args --tls-verify --tls-ca-path $ca");
		ok($ok, "$listener, $args: mail passes") or diag $out;
		like($out, qr/^=== TLS started with cipher TLSv1\.3/m, 'in TLS');
	}
	my ($host, $port) = split /:/, $proxy->addr('rsa');
	my ($out, $ok) = run("swaks --server $host --port $port --from a\@example.net --to b\@example.org");
	ok(!$ok, 'without TLS where it is required: not');
	like($out, qr/^<\*\* 530 5\.7\.0 /m, 'it is told so');
};

subtest 'posttls-finger' => sub {
	my $finger = program('posttls-finger');

	plan skip_all => 'is not installed' unless $finger;
	my $conf = temp_dir();	# it wants a configuration of Postfix, any
	write_file("$conf/main.cf", "compatibility_level = 3.6\n");
	for my $case ([ 'front', '' ], [ 'rsa', '' ], [ 'smtps', '-w' ]) {
		my ($listener, $args) = @$case;
		my ($host, $port) = split /:/, $proxy->addr($listener);
		my ($out, $ok) = run("env MAIL_CONFIG=$conf $finger -c -F $ca -l secure $args '[$host]:$port' localhost");
		ok($ok, "$listener: is content") or diag $out;
		like($out, qr/^posttls-finger: Verified TLS connection established .*: TLSv1\.3 /m, 'the certificate is good');
	}
};

done_testing;
