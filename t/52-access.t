#!/usr/bin/perl
# Who may speak at all.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use Socket qw(AF_INET6 SOCK_STREAM);
use SmtpClient;
use TestProxy;
use TestUtil;

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR};

my $back = "backend inner { discard yes }\n";

# All of 127/8 is this machine, so that a test can come from any address of it.
sub greeting
{
	my ($addr, %opt) = @_;
	my $c = SmtpClient->new($addr, %opt);

	return ($c->read_reply, $c);
}

sub is_stranger
{
	my ($reply, $c, $name) = @_;

	is($reply->raw, "554 5.7.1 you may not speak to this server\r\n", "$name gets the reason at once");
	$c->send("EHLO x.example\r\nMAIL FROM:<a\@example.net>\r\n");
	ok($c->wait_eof, 'and the connection ends');
	unlike($c->pending, qr/^2/m, 'without any command obeyed');
	return;
}

subtest 'without clients' => sub {
	my $proxy = TestProxy->start("listener front { listen 127.0.0.1:0; backend inner }\n$back");

	for my $local ('127.0.0.1', '127.1.2.3') {
		my ($reply) = greeting($proxy->addr, local => $local);
		is($reply, 220, "all of loopback may speak: $local");
	}
};

subtest 'clients are named' => sub {
	my $proxy = TestProxy->start(<<"CONF");
listener front { listen 127.0.0.1:0; backend inner; clients 127.0.0.2 127.3.0.0/16 127.4.5.128/25 192.0.2.0/24 }
$back
CONF

	for my $local ('127.0.0.2', '127.3.0.0', '127.3.255.255', '127.4.5.128', '127.4.5.255') {
		my ($reply) = greeting($proxy->addr, local => $local);
		is($reply, 220, "$local may speak");
	}
	for my $local ('127.0.0.1', '127.0.0.3', '127.2.255.255', '127.4.5.127', '127.4.6.0') {
		is_stranger(greeting($proxy->addr, local => $local), $local);
		ok($proxy->wait_log(qr/ connect client=\Q$local\E:\d+ listener=front refused=clients$/m), 'the log tells of it');
	}
	my ($reply) = greeting($proxy->addr, local => '127.0.0.2');
	is($reply, 220, 'the others are still served');
	unlike($proxy->log, qr/client=127\.0\.0\.2:\d+ .*refused/, 'and not called refused');
};

subtest 'strangers cost little' => sub {
	my $proxy = TestProxy->start(
		"listener front { listen 127.0.0.1:0; backend inner; clients 192.0.2.1 }\n$back");
	my ($engine) = grep { (read_file("/proc/$_/comm") // '') =~ /engine/ } $proxy->children;
	my $fds = sub { return scalar(() = glob "/proc/$engine/fd/*") };
	my $before = $fds->();

	for (1 .. 200) {
		my ($reply, $c) = greeting($proxy->addr);
		$c->close;
	}
	ok(wait_until { $fds->() <= $before }, 'none of 200 keeps a descriptor');
	my @talkers = map { SmtpClient->new($proxy->addr) } 1 .. 50;
	$_->send("x" x 100_000) for @talkers;
	is(scalar(grep { $_->wait_eof } @talkers), 50, 'those that talk on are cut');
	ok(wait_until { $fds->() <= $before }, 'and keep none either');
};

subtest 'any' => sub {
	my $proxy = TestProxy->start("listener front { listen 0.0.0.0:0; backend inner; clients any }\n$back");
	my ($reply) = greeting('127.0.0.1:' . $proxy->port, local => '127.9.9.9');

	is($reply, 220, 'is everybody');
};

subtest 'two listeners' => sub {
	my $proxy = TestProxy->start(<<"CONF");
listener one { listen 127.0.0.1:0; backend inner; clients 127.0.0.1 }
listener two { listen 127.0.0.1:0; backend inner; clients 127.0.0.2 }
$back
CONF

	is((greeting($proxy->addr('one'), local => '127.0.0.1'))[0], 220, 'each has its own clients');
	is((greeting($proxy->addr('one'), local => '127.0.0.2'))[0], 554, 'who may speak to one');
	is((greeting($proxy->addr('two'), local => '127.0.0.1'))[0], 554, 'may not speak to the other');
	is((greeting($proxy->addr('two'), local => '127.0.0.2'))[0], 220, 'for that');
};

subtest 'a Unix socket' => sub {
	my $proxy = TestProxy->start("listener front { listen unix:%d/in; backend inner; clients 192.0.2.1 }\n$back");
	my ($reply, $c) = greeting($proxy->addr);

	is($reply, 220, 'takes everybody who can open it');
	is($c->send_message, 250, 'and mail passes');
	ok($proxy->wait_log(qr/ msg .*client=unix\b/), 'the log calls him so');
};

subtest 'IPv6' => sub {
	require IO::Socket::IP;
	my $probe = IO::Socket::IP->new(LocalHost => '::1', LocalPort => 0, Listen => 1)
	    or plan skip_all => 'this machine has no IPv6';
	my $talk = sub {
		my ($proxy) = @_;
		my $sock = IO::Socket::IP->new(PeerHost => '::1', PeerPort => $proxy->port, Type => SOCK_STREAM)
		    or return "$@";
		return scalar <$sock>;
	};
	my $proxy = TestProxy->start("listener front { listen [::1]:0; backend inner }\n$back");
	like($talk->($proxy), qr/^220 /, 'loopback may speak by default');
	ok($proxy->wait_log(qr/ connect client=\[::1\]:\d+ listener=front$/m), 'the log has the address');
	$proxy = TestProxy->start("listener front { listen [::1]:0; backend inner; clients 2001:db8::/32 127.0.0.1 }\n$back");
	like($talk->($proxy), qr/^554 5\.7\.1 /, 'a stranger is turned away');
	$proxy = TestProxy->start("listener front { listen [::1]:0; backend inner; clients ::/64 }\n$back");
	like($talk->($proxy), qr/^220 /, 'a network is matched by its prefix');
	$proxy = TestProxy->start("listener front { listen [::]:0; backend inner; clients any }\n$back");
	like($talk->($proxy), qr/^220 /, 'any is everybody');
};

done_testing;
