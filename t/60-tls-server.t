#!/usr/bin/perl
# TLS towards the front: STARTTLS and implicit TLS, what is forgotten, what is refused, and every way to end.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use Certs;
use File::Copy ();
use IO::Select;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;
use Time::HiRes qw(time sleep);

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR};
plan skip_all => 'needs Net::SSLeay' unless eval { require TlsOctets };

my $certs = Certs->new;
$certs->authority('stranger');
my ($cert, $key) = $certs->make('server');
my ($other_cert, $other_key) = $certs->make('other', names => 'DNS:other.example', type => 'rsa');
my ($good_cert, $good_key) = $certs->make('client');
my ($old_cert, $old_key) = $certs->make('expired', from => '200101000000Z', to => '200201000000Z');
my ($alien_cert, $alien_key) = $certs->make('alien', ca => 'stranger');
my $ca = $certs->ca;
my $tls = "certificate $cert; key $key";
my $sink = SmtpSink->start;
my $held_ms = int(1000 * $TestUtil::PATIENCE);

my $proxy = TestProxy->start(<<"CONF");
workers 2
hostname gate.example
listener front { listen 127.0.0.1:0; backend inner; command_timeout 20s; tls { $tls } }
listener need  { listen 127.0.0.1:0; backend inner; starttls require; tls { $tls } }
listener clear { listen 127.0.0.1:0; backend inner }
listener no    { listen 127.0.0.1:0; backend inner; starttls no; tls { $tls } }
listener smtps { listen 127.0.0.1:0; backend inner; implicit_tls yes; tls { $tls } }
listener hasty { listen 127.0.0.1:0; backend inner; command_timeout 2s; tls { $tls } }
listener hastys { listen 127.0.0.1:0; backend inner; command_timeout 2s; implicit_tls yes; tls { $tls } }
listener ask   { listen 127.0.0.1:0; backend inner; tls { $tls; verify ask; client_ca $ca } }
listener req   { listen 127.0.0.1:0; backend inner; tls { $tls; verify require; client_ca $ca } }
listener new   { listen 127.0.0.1:0; backend inner; tls { $tls; min_version 1.3 } }
listener old   { listen 127.0.0.1:0; backend inner; tls { $tls; min_version 1.0 } }
listener two   { listen 127.0.0.1:0; backend inner; tls { certificate $cert $other_cert; key $key $other_key } }
listener closed { listen 127.0.0.1:0; backend inner; implicit_tls yes; clients 192.0.2.1; tls { $tls } }
listener early { listen 127.0.0.1:0; backend inner; implicit_tls yes; early_talker ${held_ms}ms; tls { $tls } }
listener slow  { listen 127.0.0.1:0; backend inner; implicit_tls yes; early_talker 50ms; gate pause; tls { $tls } }
dummy pause    { at connect; wait ${held_ms}ms }
backend inner { hosts @{[ $sink->addr ]} }
CONF

sub client { my ($listener, %opt) = @_; return $proxy->client($listener, %opt) }

# In TLS by STARTTLS and greeted again. %opt goes to TlsOctets.
sub secured
{
	my ($listener, %opt) = @_;
	my $c = client($listener);

	$c->ehlo;
	$c->starttls(ca => $ca, %opt);
	$c->ehlo;
	return $c;
}

sub implicit { my ($listener, %opt) = @_; return client($listener, tls => { ca => $ca, %opt }) }

# The log line of this client's session that begins with this event. The system gives a port out again, but not
# soon for the same listener.
sub line_of
{
	my ($c, $pattern) = @_;
	my ($port, $to) = $c->ports;
	my ($listener) = grep { $proxy->port($_) == $to } keys %{ $proxy->{addrs} };
	my $find = sub {
		my $log = $proxy->log;
		my ($session) = $log =~ /.* s=(\S+) connect client=127\.0\.0\.1:$port listener=$listener\b/s or return;
		my ($line) = $log =~ /^(.* s=\Q$session\E $pattern.*)$/m;
		return $line;
	};

	return wait_until { $find->() } 5;
}

# The messages that came to the back-end in this block of the test.
sub delivered(&)
{
	my ($code) = @_;
	my $before = $sink->count;

	$code->();
	return $sink->count - $before;
}

subtest 'STARTTLS' => sub {
	my $c = client('front');

	$c->ehlo('before.example');
	ok($c->has('STARTTLS'), 'is offered in clear');
	is($c->starttls(ca => $ca)->enhanced, '2.0.0', 'is answered 220');
	is($c->tls->version, 'TLSv1.3', 'the newest version is spoken');
	my $reply = $c->mail('a@example.net');
	is($reply, 503, 'the EHLO in clear is forgotten');
	like($reply->text, qr/say EHLO first/, 'and is asked for again');
	$c->ehlo('after.example');
	ok(!$c->has('STARTTLS'), 'in TLS it is not offered');
	is($c->send_message, 250, 'mail passes');
	my ($received) = ($sink->messages)[-1]{content} =~ /^(Received:.*?\r\n)(?![ \t])/ms;
	like($received, qr/from after\.example /, 'Received has the new name');
	unlike($received, qr/before\.example/, 'and not the old one');
	like($received, qr/with ESMTPS/, 'says ESMTPS');
	like($received, qr/\(using TLSv1\.3 with cipher TLS_[A-Z0-9_]+\)/, 'and the cipher');
	is($c->quit, 221, 'QUIT is answered');
	ok($c->wait_eof && $c->got_goodbye, 'and the end is an orderly one');
	my $summary = $proxy->wait_summary;
	is($summary->{helo}, 'after.example', 'the summary line has the new name');
	is($summary->{tls}, 'TLSv1.3', 'and the version');
	ok(!exists $summary->{cert}, 'and no certificate of the client');
	like(line_of($c, 'tls '), qr/ tls side=front version=TLSv1\.3 cipher=\S+ resumed=no$/, 'the log tells of it');
};

subtest 'where it is offered' => sub {
	for my $case ([ front => 1 ], [ need => 1 ], [ clear => 0 ], [ no => 0 ]) {
		my ($listener, $is) = @$case;
		my $c = client($listener);
		$c->ehlo;
		is($c->has('STARTTLS'), $is, "$listener: " . ($is ? 'yes' : 'no'));
		$c->helo;
		is($c->command('STARTTLS'), $is ? 220 : 502, "$listener: the command is " . ($is ? 'taken' : 'unknown'));
	}
	my $c = implicit('smtps');
	$c->ehlo;
	ok(!$c->has('STARTTLS'), 'not where TLS is on from the beginning');
	is($c->command('STARTTLS'), 503, 'nor is it taken there');
	is($c->send_message, 250, 'and mail passes');
	like(($sink->messages)[-1]{content}, qr/with ESMTPS/, 'as ESMTPS');
};

subtest 'when it is refused' => sub {
	my $c = client('front');

	is($c->command('STARTTLS'), 503, 'before EHLO');
	$c->ehlo;
	is($c->command('STARTTLS now'), 501, 'with an argument');
	$c->mail('a@example.net');
	is($c->command('STARTTLS'), 503, 'in a transaction');
	$c->rcpt('b@example.org');
	is($c->command('STARTTLS'), 503, 'also with a recipient');
	is($c->data, 354, 'which goes on');
	is($c->command("Subject: clear\r\n\r\ntext\r\n."), 250, 'to its end');
	$c->starttls(ca => $ca);
	is($c->command('STARTTLS'), 503, 'twice');
	$c->ehlo;
	is($c->command('STARTTLS'), 503, 'twice, behind EHLO');
	is($c->send_message, 250, 'the session goes on');
};

subtest 'where it is required' => sub {
	my $c = client('need');

	$c->ehlo;
	for my $command ('MAIL FROM:<a@example.net>', 'VRFY postmaster') {
		my $reply = $c->command($command);
		is($reply, 530, "$command: not in clear");
		is($reply->enhanced, '5.7.0', 'with its status');
	}
	is($c->command('RCPT TO:<b@example.org>'), 503, 'RCPT needs MAIL as ever');
	is($c->noop, 250, 'NOOP is free');
	is($c->rset, 250, 'RSET is free');
	$c->starttls(ca => $ca);
	is($c->send_message, 250, 'in TLS mail passes');
};

subtest 'commands in clear behind STARTTLS' => sub {
	for my $split (0, 1) {
		my $c = client('front');
		$c->ehlo;
		my $n = delivered {
			my @words = ("STARTTLS\r\n", "RSET\r\nMAIL FROM:<evil\@example.net>\r\n");
			if ($split) {
				is($c->command('STARTTLS'), 220, 'in a packet of its own');
				$c->send($words[1]);
				my $heard = '';
				while (defined(my $octets = $c->read_raw)) { $heard .= $octets }
				unlike($heard, qr/^\d{3}[ -]/m, 'nothing is answered in clear');
				like(line_of($c, 'tls '), qr/ err=.*does not speak TLS/, 'the log says why');
				like(line_of($c, 'disconnect '), qr/ why=tls /, 'and so ends the session');
			} else {
				$c->send(join '', @words);
				is($c->read_reply, 554, 'in one packet: refused');
				is($c->read_reply, 0, 'nothing is obeyed');
				like(line_of($c, 'disconnect '), qr/ why=closed /, 'the session ends');
			}
			ok($c->wait_eof, 'the connection, too');
		};
		is($n, 0, 'nothing is delivered');
	}
	unlike($proxy->log, qr/evil/, 'the command was never seen');
};

# A ClientHello as the wire has it.
sub hello
{
	my $octets = TlsOctets->new(name => 'localhost');

	$octets->handshake;
	return $octets->take;
}

subtest 'a handshake that is cut' => sub {
	my $hello = hello();

	for my $how (qw(close reset)) {
		for my $n (0, 1, 4, 5, 6, 20, length($hello) - 1, length $hello) {
			my $c = SmtpClient->new($proxy->addr($n % 2 ? 'front' : 'smtps'));
			if ($n % 2) {
				$c->expect(220);
				$c->ehlo;
				$c->command('STARTTLS') == 220 or die;
			}
			line_of($c, 'connect ');	# who is reset before that has no name
			$c->send_raw(substr $hello, 0, $n);
			$c->$how;
			like(line_of($c, 'disconnect '), qr/ why=tls /, "$how after $n octets");
		}
	}
	for my $n (0, 3, 40, length $hello) {
		my $begin = time;
		my $c = SmtpClient->new($proxy->addr($n % 2 ? 'hasty' : 'hastys'));
		if ($n % 2) {
			$c->expect(220);
			$c->ehlo;
			$c->command('STARTTLS') == 220 or die;
		}
		$c->send_raw(substr $hello, 0, $n);
		my $heard = '';
		while (defined(my $octets = $c->read_raw)) { $heard .= $octets }
		ok($c->{eof}, "silence after $n octets ends with command_timeout");
		unlike($heard, qr/421/, 'and without a word in clear');
		cmp_ok(time - $begin, '>=', 0.9, 'not before');
		like(line_of($c, 'disconnect '), qr/ why=timeout /, 'the log tells of it');
		like(line_of($c, 'tls '), qr/ tls side=front err="the TLS handshake took too long"$/, 'and what it is');
	}
	unlike($proxy->log, qr/ timeout state=/, 'nobody is said to have been told 421');
};

subtest 'a handshake that trickles' => sub {
	my ($begin, $octets) = (time, hello());
	my $c = SmtpClient->new($proxy->addr('hastys'));

	until (IO::Select->new($c->sock)->can_read(0.1)) {
		last if $octets eq '' || !$c->send_raw(substr $octets, 0, 1, '');
	}
	isnt($octets, '', 'gains no time');
	like(line_of($c, 'disconnect '), qr/ why=timeout /, 'it ends with command_timeout');
	cmp_ok(time - $begin, '>=', 0.9, 'not before');
};

subtest 'who does not speak TLS' => sub {
	my %says = ('SMTP' => "EHLO client.example\r\n", 'HTTP' => "GET / HTTP/1.0\r\n\r\n", 'nothing known' => "\0" x 100);

	for my $what (sort keys %says) {
		my $c = SmtpClient->new($proxy->addr('smtps'));
		$c->send($says{$what});
		my $heard = '';
		while (defined(my $octets = $c->read_raw)) { $heard .= $octets }
		unlike($heard, qr/[24]\d\d /, "$what on an implicit port hears no SMTP");
		like(line_of($c, 'tls '), qr/ tls side=front err="TLS: /, 'the log tells of it');
		like(line_of($c, 'disconnect '), qr/ why=tls /, 'and the session ends');
	}
};

# What is cut, by what has been sent before.
my %BEFORE = (
	'in a command' => sub { $_[0]->send('MAIL FROM:<a@exa') },
	'behind the recipients' => sub { $_[0]->mail('a@example.net'); $_[0]->rcpt('b@example.org') },
	'in DATA' => sub { $_[0]->mail('a@example.net'); $_[0]->rcpt('b@example.org'); $_[0]->data;
		$_[0]->send("Subject: half\r\n\r\nhalf a li") },
	'before the dot' => sub { $_[0]->mail('a@example.net'); $_[0]->rcpt('b@example.org'); $_[0]->data;
		$_[0]->send("Subject: half\r\n\r\nhalf\r\n") },
	'in BDAT' => sub { $_[0]->mail('a@example.net'); $_[0]->rcpt('b@example.org');
		$_[0]->send("BDAT 100 LAST\r\nSubject: half\r\n") },
);
my %CUT = (
	'a goodbye while TCP stays' => [ sub { $_[0]->say_goodbye }, 'eof' ],
	'a goodbye and the end' => [ sub { $_[0]->say_goodbye; $_[0]->half_close }, 'eof' ],
	'an end without goodbye' => [ sub { $_[0]->half_close }, 'eof' ],
	'half a record and the end' => [ sub { $_[0]->send_raw(substr $_[0]->tls->seal("\r\n.\r\n"), 0, 10); $_[0]->half_close }, 'eof' ],
	'a reset' => [ sub { $_[0]->reset }, 'broken' ],
	'octets in clear' => [ sub { $_[0]->send_raw("\r\n.\r\n") }, 'broken' ],
);

subtest 'a session that is cut' => sub {
	my $other = secured('front');
	my $n = delivered {
		for my $when (sort keys %BEFORE) {
			for my $how (sort keys %CUT) {
				my ($cut, $why) = @{ $CUT{$how} };
				my $c = secured('front');
				$BEFORE{$when}->($c);
				$cut->($c);
				like(line_of($c, 'disconnect '), qr/ why=$why /, "$when: $how ends it");
			}
		}
	};
	is($n, 0, 'nothing is delivered');
	is($other->send_message, 250, 'others live on');
};

subtest 'a flood behind a record that is no good' => sub {
	my %BAD = (
		'a flipped bit' => sub { my ($c) = @_; my $octets = $c->tls->seal("NOOP\r\n"); substr($octets, -1) ^= "\1"; $octets },
		'octets in clear' => sub { "NOOP\r\n" },
		'an alert in clear' => sub { "\x15\x03\x03\x00\x02\x02\x28" },
	);

	for my $what (sort keys %BAD) {
		my $c = secured('front');
		$c->send_raw($BAD{$what}->($c) . 'x' x 8_000_000);
		like(line_of($c, 'disconnect '), qr/ why=broken /, "$what: ends the session");
	}
	is(secured('front')->send_message, 250, 'others are served');
	unlike($proxy->log, qr/ died /, 'by the same engine');
};

subtest 'records and lines' => sub {
	my $c = secured('front');
	my @group = ('MAIL FROM:<a@example.net>', 'RCPT TO:<b@example.org>', 'RCPT TO:<c@example.org>', 'DATA');

	$c->send(join '', map { "$_\r\n" } @group);
	is(join(' ', map { $c->read_reply } @group), '250 250 250 354', 'a group in one record');
	$c->send_split("Subject: split\r\n\r\nab\r\n.\r\n", 1);
	is($c->read_reply, 250, 'content with a record for each octet');
	like(($sink->messages)[-1]{content}, qr/Subject: split\r\n\r\nab\r\n\z/, 'as it was');
	$c->send_split("NOOP\r\n", 1);
	is($c->read_reply, 250, 'a command over many records');
	my $raw = join '', map { $c->tls->seal($_) } split //, "NOOP\r\n";
	$c->send_raw($raw);
	is($c->read_reply, 250, 'many records in one packet');
	$c->send_raw($_), sleep 0.0005 for split //, $c->tls->seal("NOOP\r\n");
	is($c->read_reply, 250, 'a record over many packets');
	my $content = join '', map { "line $_ " . 'x' x ($_ % 900) . "\r\n" } 1 .. 10_000;
	is($c->send_message(content => $content, pipeline => 1), 250, 'a large message');
	my $got = ($sink->messages)[-1]{content};
	is(substr($got, -length $content), $content, 'octet by octet');
	$c->mail('a@example.net');
	$c->rcpt('b@example.org');
	is($c->bdat($content, 1, 1000, 70_000), 250, 'and in chunks');
	is(substr(($sink->messages)[-1]{content}, -length $content), $content, 'which are the same');
};

subtest 'certificates of clients' => sub {
	my %who = (
		good => [ cert => $good_cert, key => $good_key ],
		alien => [ cert => $alien_cert, key => $alien_key ],
		expired => [ cert => $old_cert, key => $old_key ],
		none => [],
	);
	my %print = (good => Certs::fingerprint($good_cert), alien => Certs::fingerprint($alien_cert),
		expired => Certs::fingerprint($old_cert));

	for my $max ('1.2', '1.3') {
		for my $who (sort keys %who) {
			my $c = secured('ask', @{ $who{$who} }, max => $max);
			my $fields = TestProxy::fields(line_of($c, 'tls '));
			is($fields->{cert}, $print{$who}, "TLS $max, ask, $who: the fingerprint is logged");
			is($fields->{verified}, { good => 'yes', none => undef }->{$who} // ($who eq 'none' ? undef : 'no'),
				'and whether it is good');
			is($c->send_message, 250, 'mail passes');
			is($proxy->summary_of($c)->{cert}, $print{$who}, 'the summary line has it, too');
		}
		is(secured('req', @{ $who{good} }, max => $max)->send_message, 250, "TLS $max, require, good: mail passes");
		for my $who (qw(alien expired none)) {
			my $c = client('req');
			$c->ehlo;
			$c->command('STARTTLS');
			my $reply = $c->shake(@{ $who{$who} }, max => $max) ? $c->ehlo : 0;
			is($reply, 0, "TLS $max, require, $who: nothing is answered");
			like($c->tls_error, qr/alert|connection ended/i, 'but an alert');
			like(line_of($c, 'tls '), { alien => qr/err=.*not signed by an authority/, expired => qr/err=.*expired/,
				none => qr/err=.*no certificate/ }->{$who}, 'the log says why');
			like(line_of($c, 'disconnect '), qr/ why=tls /, 'and the session ends');
		}
	}
};

subtest 'names and versions' => sub {
	my ($first, $second) = map { Certs::fingerprint($_) } $cert, $other_cert;

	for my $case ([ undef, $first ], [ 'localhost', $first ], [ 'other.example', $second ], [ 'OTHER.example', $second ],
		[ 'unknown.example', $first ]) {
		my ($name, $want) = @$case;
		my $c = secured('two', name => $name);
		is($c->tls->fingerprint, $want, 'asked for ' . ($name // 'no name'));
		is(TestProxy::fields(line_of($c, 'tls '))->{name}, $name, 'the log has the name');
	}
	is(secured('front', max => '1.2')->tls->version, 'TLSv1.2', 'TLS 1.2 by default');
	is(secured('old', min => '1.0', max => '1.0')->tls->version, 'TLSv1', 'TLS 1.0 where somebody wants it');
	for my $case ([ 'front', '1.1', '1.1' ], [ 'new', '1.2', '1.2' ]) {
		my ($listener, $min, $max) = @$case;
		my $c = client($listener);
		$c->ehlo;
		$c->command('STARTTLS');
		ok(!$c->shake(min => $min, max => $max), "TLS $max is not spoken on $listener");
		like(line_of($c, 'tls '), qr/err=.*no TLS version in common/, 'the log says so');
	}
	is(secured('new')->tls->version, 'TLSv1.3', 'TLS 1.3 is');
};

subtest 'resumption' => sub {
	for my $max ('1.2', '1.3') {
		my $c = secured('front', max => $max);
		my $session = $c->tls->session;
		my ($resumed, %workers) = (0);
		for (1 .. 8) {
			my $next = secured('front', max => $max, session => $session);
			$resumed++ if $next->tls->is_resumed;
			my $line = line_of($next, 'tls ');
			like($line, qr/ resumed=yes/, "TLS $max: resumed");
			$workers{$1}++ if $line =~ / (w\d+) s=/;
			is($next->send_message, 250, 'mail passes') if $_ == 1;
		}
		is($resumed, 8, 'on whichever worker');
		note join ' ', map { "$_=$workers{$_}" } sort keys %workers;
		my $proof = secured('ask', cert => $good_cert, key => $good_key, max => $max);
		my $again = secured('ask', max => $max, session => $proof->tls->session);
		my $fields = TestProxy::fields(line_of($again, 'tls '));
		is($fields->{resumed}, 'yes', 'also with a certificate');
		is($fields->{cert}, Certs::fingerprint($good_cert), 'which is still known');
		is($fields->{verified}, 'yes', 'and good');
	}
	my $c = secured('ask', cert => $alien_cert, key => $alien_key);
	my $again = secured('ask', session => $c->tls->session);
	isnt(TestProxy::fields(line_of($again, 'tls '))->{verified}, 'yes', 'a certificate that was not good does not become so');
	$again = client('req');
	$again->ehlo;
	$again->command('STARTTLS');
	ok(!($again->shake(session => $c->tls->session) && $again->ehlo), 'a session of another listener opens no door');
};

subtest 'a stranger' => sub {
	my $c = SmtpClient->new($proxy->addr('closed'), tls => { ca => $ca });

	is($c->read_reply, 554, 'is refused inside TLS');
	ok($c->wait_eof && $c->got_goodbye, 'in an orderly way');
	# What it says together with the end of its handshake is not heard.
	my $octets = TlsOctets->new;
	$c = SmtpClient->new($proxy->addr('closed'));
	until ($octets->handshake) {
		$c->send_raw($octets->take);
		$octets->feed($c->read_raw // last);
	}
	$c->send_raw($octets->take . $octets->seal("EHLO x.example\r\nNOOP\r\n"));
	$c->{tls} = $octets;
	is($c->read_reply, 554, 'also one in a hurry');
	ok($c->wait_eof, 'is cut');
	is($c->pending, '', 'and hears no more');
};

subtest 'the greeting held back' => sub {
	my $begin = time;
	my $c = implicit('early');

	cmp_ok(time - $begin, '>=', 0.99, 'comes after its time, in TLS');
	is($c->send_message, 250, 'and mail passes');
	$c = SmtpClient->new($proxy->addr('early'), tls => { ca => $ca });
	$c->send("EHLO x.example\r\n");
	is($c->read_reply, 554, 'who does not wait is refused');
	like(line_of($c, 'disconnect '), qr/ why=early /, 'and cut');
	my $octets = TlsOctets->new;
	$c = SmtpClient->new($proxy->addr('early'));
	until ($octets->handshake) {
		$c->send_raw($octets->take);
		$octets->feed($c->read_raw // last);
	}
	$c->send_raw($octets->take . $octets->seal("EHLO x.example\r\n"));
	$c->{tls} = $octets;
	is($c->read_reply, 554, 'also who speaks together with the handshake');
	for my $listener (qw(early slow)) {
		for my $n (1, 20) {
			$c = SmtpClient->new($proxy->addr($listener), tls => { ca => $ca });
			$c->send_raw(substr $c->tls->seal("EHLO x.example\r\n"), 0, $n);
			is($c->read_reply, 554, "$listener: who has begun a record has spoken, with $n octets of it");
			like(line_of($c, 'early_talker '), qr/ octets=0$/, 'of which none can be read');
			like(line_of($c, 'disconnect '), qr/ why=early /, 'and is cut');
		}
	}
	$c = SmtpClient->new($proxy->addr('early'), tls => { ca => $ca });
	$c->say_goodbye;
	like(line_of($c, 'disconnect '), qr/ why=eof /, 'who leaves has left');
};

subtest 'too many errors' => sub {
	my $c = secured('front');
	my $last;

	1 while ($last = $c->command('NONSENSE')) == 500;
	is($c->read_reply, 421, 'end it') if $last != 421;
	ok($c->wait_eof && $c->got_goodbye, 'with a goodbye');
};

subtest 'files that are of no use' => sub {
	my $dir = temp_dir();
	my $junk = write_file("$dir/junk", "no certificate\n");
	my $locked = "$dir/locked";

	Certs::openssl(qw(pkey -aes128 -passout pass:secret -in), $key, '-out', $locked);
	my @cases = (
		[ 'a certificate that is not there', "certificate $dir/none; key $key",
			"certificate $dir/none: No such file or directory" ],
		[ 'a key that is not there', "certificate $cert; key $dir/none", "key $dir/none: No such file or directory" ],
		[ 'the key of another certificate', "certificate $cert; key $other_key",
			"key $other_key: it does not belong to the certificate" ],
		[ 'no key in the file of the certificate', "certificate $cert", "key $cert: it holds none in PEM form" ],
		[ 'a file without a certificate', "certificate $junk; key $key", "certificate $junk: it holds none in PEM form" ],
		[ 'a file without a key', "certificate $cert; key $junk", "key $junk: it holds none in PEM form" ],
		[ 'a key that is encrypted', "certificate $cert; key $locked",
			"key $locked: it is encrypted; it must be there without a passphrase" ],
		[ 'the second of two keys', "certificate $cert $other_cert; key $key $key",
			"key $key: it does not belong to the certificate" ],
		[ 'authorities that are not there', "$tls; verify ask; client_ca $dir/none",
			"file of authorities $dir/none: No such file or directory" ],
	);
	for my $case (@cases) {
		my ($name, $block, $words) = @$case;
		write_file("$dir/conf", "listener front { listen 127.0.0.1:0; backend inner; tls { $block } }\n"
			. "backend inner { discard yes }\n");
		my $out = `@{[ builddir() ]}/postern -t -c $dir/conf 2>&1 </dev/null`;
		is($? >> 8, 78, "$name: -t fails");
		like($out, qr/^\Q$dir\E\/conf:1:\d+: \Q$words\E$/m, 'and says why, and where');
	}
};

subtest 'certificates on disk' => sub {
	my $dir = $certs->dir;
	my ($new_cert, $new_key) = $certs->make('new');
	my $copy = sub {
		my ($from, $to) = @_;
		File::Copy::copy($from, "$dir/$to.tmp") or die;
		chmod 0644, "$dir/$to.tmp";
		rename "$dir/$to.tmp", "$dir/$to" or die;
	};
	$copy->($cert, 'live.pem');
	$copy->($key, 'live.key');
	$copy->($cert, 'next.pem');
	my $live = TestProxy->start(<<"CONF");
listener front { listen 127.0.0.1:0; backend inner; tls { certificate $dir/live.pem; key $dir/live.key } }
listener next { listen 127.0.0.1:0; backend inner; tls { certificate $dir/next.pem; key $key } }
backend inner { discard yes }
CONF
	my $print = sub {
		my $c = $live->client;
		$c->ehlo;
		$c->starttls(ca => $ca);
		return $c->tls->fingerprint;
	};
	my $session = $live->client;
	$session->ehlo;
	$session->starttls(ca => $ca);
	is($print->(), Certs::fingerprint($cert), 'the first one is shown');

	# One after the other: between them they do not belong together.
	$copy->($new_cert, 'live.pem');
	ok($live->wait_log(qr/ certificate of=listener name=front state=kept err=".*key.*does not belong to the certificate"/),
		'a certificate without its key is not taken');
	is($print->(), Certs::fingerprint($cert), 'the old one is shown on');
	$copy->($new_key, 'live.key');
	ok($live->wait_log(qr/ certificate of=listener name=front state=loaded/), 'both are');
	is($print->(), Certs::fingerprint($new_cert), 'new connections get the new one');
	is($session->send_message, 250, 'the session from before goes on');

	write_file("$dir/live.pem", "broken\n");
	ok($live->wait_log(qr/ state=kept err=".*live\.pem.*PEM/), 'a broken file is told');
	is($print->(), Certs::fingerprint($new_cert), 'and the old one kept');
	unlink "$dir/live.key";
	ok((wait_until { (() = $live->log =~ / state=kept /g) == 3 }), 'a missing key is another state');
	$copy->($cert, 'next.pem');
	ok($live->wait_log(qr/ certificate of=listener name=next state=loaded/), 'the files were looked at once more');
	is(scalar(() = $live->log =~ / state=kept /g), 3, 'each is told once');
	$copy->($cert, 'live.pem');
	$copy->($key, 'live.key');
	ok((wait_until { $print->() eq Certs::fingerprint($cert) }), 'good files are taken again');
	is($session->quit, 221, 'the old session ends well');
};

subtest 'a stop' => sub {
	my $hello = hello();
	my @shaking = map { SmtpClient->new($proxy->addr('smtps')) } 1 .. 3;
	my $idle = secured('front');
	my $open = secured('front');

	$shaking[1]->send_raw(substr $hello, 0, 50);
	$shaking[2]->send_raw($hello);
	$open->mail('a@example.net');
	$open->rcpt('b@example.org');
	line_of($_, 'connect ') for @shaking;
	$proxy->signal('TERM');
	is($idle->read_reply, 421, 'an idle session hears 421, in TLS');
	ok($idle->wait_eof && $idle->got_goodbye, 'and a goodbye');
	for my $c (@shaking) {
		my $heard = '';
		while (defined(my $octets = $c->read_raw)) { $heard .= $octets }
		ok($c->{eof}, 'a handshake is cut');
		unlike($heard, qr/421/, 'without a word in clear');
	}
	is($open->data, 354, 'an open transaction goes on');
	is($open->command("Subject: last\r\n\r\ntext\r\n."), 250, 'to its end');
	is($open->read_reply, 421, 'then it is over');
	is($proxy->stop, 0, 'and all ends well');
};

done_testing;
