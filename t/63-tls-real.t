#!/usr/bin/perl
# TLS with programs of others: a real Postfix behind Postern and before it, and openssl s_server.
use strict;
use warnings;
use IO::Handle;
use IPC::Open2;
use Test::More;
use Certs;
use MtaPostfix;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

my $certs = Certs->new;
my ($cert, $key) = $certs->make('server');
my $content = "Subject: one\r\nFrom: <a\@example.net>\r\nDate: Sun, 22 Nov 2020 12:00:00 +0000\r\n"
    . "Message-ID: <1\@example.net>\r\n\r\n.a dot\r\n\r\n" . 'x' x 900 . "\r\nend\r\n";

sub proxy
{
	my ($hosts, $options, $listener) = @_;

	return TestProxy->start(<<"CONF");
workers 1
log { level debug }
listener front { listen 127.0.0.1:0; backend inner; @{[ $listener // '' ]} }
backend inner { hosts $hosts; $options }
CONF
}

# ---- Postfix -------------------------------------------------------------------------------

SKIP: {
	my $why = MtaPostfix->unavailable;
	skip $why, 3 if $why;

	for my $chunking ('no', 'yes') {
		subtest "Postfix is the back-end, chunking $chunking" => sub {
			my $mta = MtaPostfix->new(main => <<"MAIN")->start;
smtpd_tls_security_level = encrypt
smtpd_tls_cert_file = $cert
smtpd_tls_key_file = $key
smtpd_tls_loglevel = 1
smtpd_tls_received_header = yes
MAIN
			my $proxy = proxy($mta->addr, "tls verify; max_idle 0; chunking $chunking; tls_ca " . $certs->ca);
			my $c = $proxy->client;
			is $c->send_message(content => $content), 250, 'a message is taken' for 1 .. 2;
			is $c->send_message(content => $content . ('y' x 70 . "\r\n") x 30_000), 250, 'and one of 2 MB';
			my @messages = sort { length $a <=> length $b } $mta->wait_messages(3);
			is scalar @messages, 3, 'they arrive' or diag $mta->log, $proxy->log;
			is +($messages[0] =~ /\n\n(.*)\z/s)[0], ($content =~ s/\r\n/\n/gr) =~ s/.*?\n\n//sr, 'the body is the same';
			like $messages[0], qr/\(using TLSv1\.3 with cipher /, 'Postfix writes that it was TLS';
			ok $proxy->wait_log(qr/ tls side=back [^\n]*version=TLSv1\.3 [^\n]*resumed=yes [^\n]*verified=yes/),
			    'sessions are resumed' or diag $proxy->log;
		};
	}

	subtest 'Postfix is the front' => sub {
		my $sink = SmtpSink->start;
		my $proxy = proxy($sink->addr, 'tls none', "received no; starttls require; tls { certificate $cert; key $key }");
		my $mta = MtaPostfix->new(relay => $proxy->addr, main => <<"MAIN")->start;
smtp_tls_security_level = encrypt
smtp_tls_CAfile = @{[ $certs->ca ]}
smtp_tls_loglevel = 1
smtp_tls_session_cache_database =
MAIN
		is(SmtpClient->connect($mta->addr)->send_message(content => $content), 250, 'it takes a message');
		ok $sink->wait_count(1, 20), 'which arrives' or diag $mta->log, $proxy->log;
		is +($sink->txn(0)->{content} =~ /\r\n\r\n(.*)\z/s)[0], $content =~ s/.*?\r\n\r\n//sr, 'the same as it was';
		ok $mta->wait_log(qr/TLS connection established to [^\n]*: TLSv1\.3/), 'through TLS';
		ok $mta->wait_log(qr/status=sent/), 'and is sent as far as Postfix knows';
		ok((wait_until { $mta->is_empty }), 'nothing stays in the queue');
	};
}

# ---- openssl s_server ----------------------------------------------------------------------

# One that takes connections at this port until its pipe is closed. Its output and input.
sub s_server
{
	my ($port, @args) = @_;
	my $pid = open2(my $out, my $in, 'sh', '-c', 'exec "$@" 2>&1', 'sh', 'openssl', 's_server', '-accept', "127.0.0.1:$port",
		'-cert', $cert, '-key', $key, @args);

	$in->autoflush(1);
	return { pid => $pid, out => $out, in => $in, text => '' };
}

# Reads what it prints until this comes.
sub expect
{
	my ($server, $pattern) = @_;
	my $end = time + 20 * $TestUtil::PATIENCE;

	until ($server->{text} =~ $pattern) {
		vec(my $bits = '', fileno $server->{out}, 1) = 1;
		return 0 if time > $end || !select $bits, undef, undef, 1 and time > $end;
		next unless vec $bits, fileno $server->{out}, 1;
		$server->{text} = substr $server->{text}, -1000 if length $server->{text} > 1000;
		sysread $server->{out}, $server->{text}, 65536, length $server->{text} or return 0;
	}
	$server->{text} =~ s/\A.*?$pattern//s;
	return 1;
}

# Takes what it prints, without waiting: while its output is full it reads nothing.
sub drain
{
	my ($server) = @_;

	vec(my $bits = '', fileno $server->{out}, 1) = 1;
	sysread $server->{out}, $server->{text}, 65536, length $server->{text} if select $bits, undef, undef, 0;
	return;
}

# Octets in its input that it has not read yet.
sub unread
{
	my ($server) = @_;

	ioctl $server->{in}, 0x541b, my $count = pack('i', 0) or die "FIONREAD: $!";
	return unpack 'i', $count;
}

sub stop
{
	my ($server) = @_;

	local $?;
	kill 'KILL', $server->{pid};
	waitpid $server->{pid}, 0;
	return;
}

subtest 's_server shakes hands and says nothing' => sub {
	my $port = free_port();
	my $server = s_server($port);
	expect($server, qr/ACCEPT/) or BAIL_OUT('s_server does not start');
	my $proxy = proxy("127.0.0.1:$port", 'greeting_timeout 1s; implicit_tls yes; tls verify; tls_ca ' . $certs->ca);
	my $reply = $proxy->client->send_message;
	is $reply, 451, 'the front keeps the mail';
	is $reply->text, '4.4.1 the next hop cannot be reached, try again later', 'it is no fault of TLS';
	ok $proxy->wait_log(qr/no reply to greeting in time/), 'the log says what was missing' or diag $proxy->log;
	stop($server);
};

# Its command K changes the keys and asks us to change ours: both sides must go on as if nothing had been.
subtest 's_server changes keys in the middle of a message, and right before its end' => sub {
	my $port = free_port();
	my $server = s_server($port, '-crlf', '-tls1_3');
	expect($server, qr/ACCEPT/) or BAIL_OUT('s_server does not start');
	my $proxy = proxy("127.0.0.1:$port", 'max_connections 1; implicit_tls yes; tls verify; tls_ca ' . $certs->ca, 'envelope late');
	my $say = sub { print { $server->{in} } "$_[0]\n" };
	# It forgets what comes in one packet with a command.
	my $change = sub { $say->($_[0]); wait_until { drain($server); unread($server) == 0 } };
	my $greet = sub { $say->('220 s_server'); expect($server, qr/EHLO .*\r?\n/) and $say->('250 s_server') };

	ok $greet->(), 'the first connection is greeted';
	my $large = "Subject: large\r\n\r\n" . ('y' x 70 . "\r\n") x 50_000 . "MARK\r\n" . ('z' x 70 . "\r\n") x 50_000;
	my $c = $proxy->client(undef, timeout => 60);
	$c->ehlo;
	$c->send("MAIL FROM:<a\@example.net>\r\nRCPT TO:<b\@example.org>\r\nDATA\r\n");
	$c->expect($_) for 250, 250, 354;
	my $pid = fork // die "fork: $!";
	if (!$pid) {
		$c->send(SmtpClient::stuffed($large));
		POSIX::_exit(0);
	}
	for my $verb ('MAIL', 'RCPT') {
		ok expect($server, qr/^$verb .*\n/m), "$verb comes" or return diag $server->{text};
		$say->('250 ok');
	}
	ok expect($server, qr/^DATA\r?\n/m), 'DATA comes';
	ok $change->('K'), 'keys change';
	$say->('354 go');
	ok expect($server, qr/^MARK\r?\n/m), 'half of the content comes';
	ok $change->('K'), 'keys change, and ours with them';
	# It prints "Read BLOCK" where a record, such as our new key, brought it no content.
	ok expect($server, qr/^z+\r?\n(?:Read BLOCK\n)*\.\r?\n/m), 'and the other half, with the dot';
	ok $change->('k'), 'keys change right before the reply';
	$say->('250 2.0.0 taken');
	is $c->read_reply, 250, 'the front hears that it was taken' or diag $proxy->log;
	waitpid $pid, 0;
	$c->quit;
	stop($server);
};

subtest 'TLS 1.1 of s_server' => sub {
	my $port = free_port();
	my $server = s_server($port, '-tls1_1', '-cipher', 'DEFAULT@SECLEVEL=0');
	expect($server, qr/ACCEPT/) or return plan skip_all => 'needs TLS 1.1 in openssl';
	my $proxy = proxy("127.0.0.1:$port", 'tls required; implicit_tls yes');
	is $proxy->client->send_message->text, '4.7.5 TLS with the next hop failed: no TLS version in common',
	    'is not what we speak';
	stop($server);
};
done_testing;
