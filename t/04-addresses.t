#!/usr/bin/perl
# An address that is listened on has many names, and is told by one: at postern -t, at the start and at a reload.
use strict;
use warnings;
use Cwd 'abs_path';
use IO::Socket::IP;
use Socket qw(getaddrinfo getnameinfo AI_PASSIVE NI_NUMERICHOST NI_NUMERICSERV SOCK_STREAM);
use Test::More;
use TestProxy;
use TestUtil;

my $dir = temp_dir();
my $program = abs_path(TestProxy::program(bless { dir => $dir }, 'TestProxy'));
my $user = is_root() ? "user nobody\n" : '';
mkdir "$dir/spool", 0700;
chown +(getpwnam 'nobody')[2], -1, "$dir/spool" if is_root();

# What it says to these listeners, a list of addresses each.
sub postern
{
	my ($flags, @listeners) = @_;
	my $n = 0;
	my $wrap = ref $flags ? "$flags->[0] " : '';
	my $conf = join '', map { 'listener l' . $n++ . " { listen $_; clients 127.0.0.0/8; backend inner }\n" } @listeners;

	write_file("$dir/p", "${conf}backend inner { discard yes }\n${user}spool { directory $dir/spool; min_free 0 }\n", 0644);
	return `cd '$dir' && $wrap '$program' @{[ ref $flags ? $flags->[1] : $flags ]} -c p 2>&1 </dev/null`;
}

# The first address of a name, with this port, as it is written here.
sub first_address
{
	my ($name, $port) = @_;
	my ($err, $first) = getaddrinfo($name, $port, { flags => AI_PASSIVE, socktype => SOCK_STREAM });
	return if $err;
	my (undef, $host) = getnameinfo($first->{addr}, NI_NUMERICHOST | NI_NUMERICSERV);
	return $host =~ /:/ ? "[$host]:$port" : "$host:$port";
}

sub can_listen
{
	my ($host) = @_;

	return IO::Socket::IP->new(LocalHost => $host, LocalPort => 0, Listen => 1) ? 1 : 0;
}

my $port = free_port();
my $address = first_address('localhost', $port);

subtest 'a name and its address' => sub {
	plan skip_all => 'localhost has no address here' unless $address && can_listen('localhost');
	my $where = $address =~ /^\[/ ? '[::]' : '0.0.0.0';

	for my $other ($address, "$where:$port") {
		is(postern('-t', $other, "localhost:$port"),
			"p:2:22: listen: localhost:$port and $other of listener l0 cannot both be: it is the same address, or one is for all\n",
			"localhost and $other cannot both be");
	}
	is(postern('-f', $address, "localhost:$port"), "postern: listener l1: cannot listen on localhost:$port: "
		. "our own socket on $address is in the way (it is the same address: name it once, and as it was)\n",
		'at the start, behind the address');
	is(postern('-f', "localhost:$port", $address), "postern: listener l1: cannot listen on $address: "
		. "our own socket on localhost:$port is in the way (it is the same address: name it once, and as it was)\n",
		'and before it');
	my $taken = IO::Socket::IP->new(LocalHost => $address =~ s/:\d+\z//r =~ tr/[]//dr, LocalPort => $port, Listen => 1) or die;
	like(postern('-f', "localhost:$port"), qr/: address already in use \(another program listens there; /, 'another program is blamed when it is there');
};

subtest 'an address of IPv6 in another spelling' => sub {
	plan skip_all => 'no IPv6 here' unless can_listen('::1');

	my $backend = "backend inner { discard yes }\n";
	my $proxy = TestProxy->start("listener front { listen [::1]:$port; backend inner }\n$backend");
	is($proxy->reload("listener front { listen [0::0001]:$port; max_recipients 5; backend inner }\n$backend"), 'done', 'is the same at a reload');
	unlike($proxy->log, qr/in the way|unlisten/, 'which opens no other one');
	my $client = IO::Socket::IP->new(PeerHost => '::1', PeerPort => $port);
	like($client ? scalar <$client> : '', qr/^220 /, 'and it serves');
	is($proxy->stop, 0, 'postern ends in good order');
};

# /etc/hosts of its own, where that can be had.
subtest 'a name with addresses of both families' => sub {
	my $hosts = write_file("$dir/hosts", "127.0.0.1 localhost both.example\n::1 both.example\n", 0644);
	my $mounted = "mount --bind $hosts /etc/hosts";
	plan skip_all => 'no /etc/hosts of our own can be had'
	    unless `unshare -m sh -c '$mounted && getent ahosts both.example' 2>/dev/null` =~ /^::1/m && can_listen('::1');
	my $run = [ "unshare -m sh -c '$mounted && exec \"\$\@\"' sh", '-t' ];

	my $only = qr/only (?:127\.0\.0\.1|\[::1\]):$port is listened on \(try the addresses themselves, one or both\)/;
	like(postern($run, "both.example:$port"), qr/^p:1:22: warning: listen: both\.example has addresses of IPv4 and of IPv6, and $only\n/,
		'is listened on with one of them, which is told');
	is(postern($run, "localhost:$port"), "p: the configuration is good\n", 'one with addresses of one family is good');
};

done_testing;
