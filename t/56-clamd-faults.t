#!/usr/bin/perl
# The filter clamd before one that is slow, silent, lies or goes away, at each step, and for each on_failure: never is
# a message taken for clean.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use FakeService;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};

my $sink = SmtpSink->start;
my $timeout = int(2000 * $TestUtil::PATIENCE) . 'ms';
my $small = "Subject: one\r\n\r\none\r\n";
my $large = "Subject: large\r\n\r\n" . ('x' x 70 . "\r\n") x 30000;

# ---- a clamd of our own --------------------------------------------------------------------------

# The next command, the session's begin before it. Its number, 0 without a session.
sub command
{
	my ($c) = @_;
	my $command = $c->read_to("\0") // return;

	if ($command eq 'zIDSESSION') {
		$c->{id} = 0;
		$command = $c->read_to("\0") // return;
	}
	$c->{id}++ if defined $c->{id};
	$c->{command} = $command;
	return $command;
}

# All chunks of a message; undefined when it was cut off.
sub content
{
	my ($c) = @_;
	my $content = '';

	return $c->read(1) && 'x' if $c->{command} eq 'zFILDES';
	while (1) {
		my $len = unpack 'N', $c->read(4) || return;
		return $content unless $len;
		$content .= $c->read($len);
	}
}

sub id { my ($c) = @_; return defined $c->{id} ? "$c->{id}: " : '' }
sub subject { my ($c) = @_; return $c->{command} eq 'zFILDES' ? 'fd[10]: ' : 'stream: ' }
sub taken { my ($c) = @_; return defined command($c) && defined content($c) }

# Takes the message and says this, once or for ever.
sub says
{
	my ($make, $then) = @_;

	return sub {
		my ($c) = @_;
		taken($c) or return;
		$c->send($make->(id($c), subject($c)));
		$then ? $c->$then : $c->hold;
	};
}

# name, script, what the log says of it, the size of the message
my @faults = (
	[ 'closes at once', sub { $_[0]->close }, qr/closed the connection|closed by|reset|broken pipe/ ],
	[ 'resets at once', sub { $_[0]->reset }, qr/closed the connection|closed by|reset|broken pipe/ ],
	[ 'is silent from the begin', sub { $_[0]->hold }, qr/no answer within/ ],
	[ 'greets', sub { $_[0]->send("220 mail.example ESMTP\r\n"); $_[0]->hold }, qr/no answer within|it said/ ],
	[ 'closes behind the command', sub { command($_[0]) }, qr/closed the connection|closed by|reset|broken pipe/ ],
	[ 'resets behind the command', sub { command($_[0]); $_[0]->reset }, qr/closed the connection|closed by|reset|broken pipe/ ],
	[ 'closes within the message', sub { command($_[0]); $_[0]->read(10000); }, qr/closed the connection|closed by|reset|broken pipe/, $large ],
	[ 'resets within the message', sub { command($_[0]); $_[0]->read(10000); $_[0]->reset }, qr/reset|broken pipe|closed/, $large ],
	[ 'reads no further', sub { command($_[0]); $_[0]->deaf(20) }, qr/no answer within/, $large ],
	[ 'is silent', sub { taken($_[0]); $_[0]->hold }, qr/no answer within/ ],
	[ 'closes instead of an answer', sub { taken($_[0]) }, qr/closed the connection before its answer was complete/ ],
	[ 'resets instead of an answer', sub { taken($_[0]); $_[0]->reset }, qr/reset|closed the connection/ ],
	[ 'answers half', says(sub { "$_[0]$_[1]O" }, 'close'), qr/closed the connection before its answer was complete/ ],
	[ 'answers without an end, and closes', says(sub { "$_[0]$_[1]OK" }, 'close'), qr/before its answer was complete/ ],
	[ 'answers without an end, and waits', says(sub { "$_[0]$_[1]OK" }), qr/no answer within/ ],
	[ 'ends its answer with a line end', says(sub { "$_[0]$_[1]OK\n" }), qr/no answer within/ ],
	[ 'says nothing but an end', says(sub { "\0" }), qr/it said ""/ ],
	[ 'says OK alone', says(sub { "OK\0" }), qr/it said "OK"/ ],
	[ 'says PONG', says(sub { "$_[0]PONG\0" }), qr/it said "\S+ PONG"/ ],
	[ 'says ok', says(sub { "$_[0]$_[1]ok\0" }), qr/it said/ ],
	[ 'says OK with a blank', says(sub { "$_[0]$_[1]OK \0" }), qr/it said/ ],
	[ 'says OK with a line end', says(sub { "$_[0]$_[1]OK\r\n\0" }), qr/it said/ ],
	[ 'says OK of a path', says(sub { "$_[0]/tmp/x: OK\0" }), qr/it said/ ],
	[ 'says FOUND without a name', says(sub { "$_[0]$_[1]FOUND\0" }), qr/it said/ ],
	[ 'says ERROR', says(sub { "$_[0]$_[1]Can't allocate memory ERROR\0" }), qr/it said ".*Can't allocate memory ERROR"/ ],
	[ 'has another number', says(sub { "2: $_[1]OK\0" }), qr/it said "2: / ],
	[ 'has no number', says(sub { "$_[1]OK\0" }), qr/it said/ ],
	[ 'answers the other way', says(sub { $_[0] . ($_[1] =~ /fd/ ? 'stream: ' : 'fd[10]: ') . "OK\0" }), qr/it said/ ],
	[ 'says more than it was asked', says(sub { "$_[0]$_[1]OK\0$_[0]$_[1]OK\0" }), qr/more than it was asked/ ],
	[ 'says control characters', says(sub { "$_[0]\r\n250 ok\e[2J\xff\0" }), qr/it said "1:   250 ok \[2J\?"/ ],
	[ 'floods with answers', sub { taken($_[0]); $_[0]->flood('x' x 10000) }, qr/its answer has no end/ ],
	[ 'floods with ends', sub { taken($_[0]); $_[0]->flood("\0" x 10000) }, qr/more than it was asked/ ],
	[ 'drips', sub { taken($_[0]); $_[0]->drip("$_[0]{id}: stream: OK\0", 0.5 * $TestUtil::PATIENCE) }, qr/no answer within/ ],
	[ 'has too large a message', says(sub { "$_[0]INSTREAM size limit exceeded. ERROR\0" }, 'close'), qr/larger than its StreamMaxLength/ ],
);
# Only of a stream.
my @stream_faults = (
	[ 'calls it clean before it has it', sub { command($_[0]); $_[0]->send(id($_[0]) . "stream: OK\0"); $_[0]->deaf(20) },
		qr/before it had all of it/, $large ],
	[ 'has a limit within the message', sub { command($_[0]); $_[0]->read(100000); $_[0]->send(id($_[0]) . "INSTREAM size limit exceeded. ERROR\0"); $_[0]->deaf(20) },
		qr/larger than its StreamMaxLength/, $large ],
);

my %replies = (tempfail => qr/^451 /, reject => qr/^554 /, disconnect => qr/^421 /, pass => qr/^250 /, quarantine => qr/^250 /);

sub proxy
{
	my ($conf, $workers) = @_;

	return TestProxy->start(<<"CONF");
workers @{[ $workers // 1 ]}
listener front { listen 127.0.0.1:0; backend inner }
backend inner { hosts @{[ $sink->addr ]} }
quarantine { directory %d/quarantine }
default_chain none
$conf
CONF
}

# ---- each fault --------------------------------------------------------------------------------

my $dir = temp_dir();
for my $way ('instream', 'fildes') {
	my @cases = (@faults, $way eq 'instream' ? @stream_faults : ());
	my @how = sort keys %replies;
	my @fakes = map {
		FakeService->start($cases[$_][1], receive => 8192, $way eq 'fildes' ? (address => "unix:$dir/$_") : ())
	} 0 .. $#cases;
	my $proxy = proxy(join '', map {
		my $i = $_;
		map { "clamd c$i$_ { socket @{[ $fakes[$i]->addr ]}; timeout $timeout; on_failure $_ }\n"
			. "rule { recipient c$i$_\@example.org; chain c$i$_ }\n" } @how
	} 0 .. $#cases);

	# All at once: most of the time is waiting.
	my $before = $sink->count;
	my %clients;
	for my $i (grep { $way eq 'instream' || !$cases[$_][3] } 0 .. $#cases) {
		for my $how (@how) {
			my $c = $clients{"$i $how"} = $proxy->client;
			$c->ehlo;
			$c->mail('s@example.net');
			$c->rcpt("c$i$how\@example.org");
			$c->data;
			$c->send(($cases[$i][3] // $small) . ".\r\n");
		}
	}
	for my $i (0 .. $#cases) {
		my ($name, $script, $words) = @{ $cases[$i] };

		for my $how (@how) {
			my $c = $clients{"$i $how"} or next;
			like($c->read_reply->raw, $replies{$how}, "$way, one that $name: $how");
		}
		next unless $clients{"$i tempfail"};
		my $line = wait_until { ($proxy->log =~ / (filter filter=c${i}tempfail .*)\n/)[0] };
		$line =~ s/\\(.)/$1/g if defined $line;
		like($line // 'no line', $words, "$way, one that $name: the log says so");
	}
	is_deeply([ grep { $fakes[$_]->count > @how } 0 .. $#cases ], [], "$way: each was asked once for each message");
	# Those that passed were delivered, each once; those that were set aside, not.
	my $count = grep { / pass$/ } keys %clients;
	is($sink->count - $before, $count, "$way: what passes unchecked was delivered, and nothing else");
	my @kept = grep { !m{/tmp$} } glob $proxy->dir . '/quarantine/*';
	is(scalar @kept, $count, "$way: as many are in the quarantine");
	is($proxy->stop, 0, "$way: the proxy ends well");
}

# ---- kept connections --------------------------------------------------------------------------

sub sent { my ($proxy) = @_; return $proxy->client->send_message(content => $small, to => 'r@example.org') }

# Serves so many messages, then does this.
sub serves
{
	my ($count, $then) = @_;

	return sub {
		my ($c, $n) = @_;
		for (1 .. $count) {
			taken($c) or return $c->note('cut off');
			$c->note("connection $n, message $c->{id}");
			$c->send(id($c) . subject($c) . "OK\0");
		}
		$then->($c) if $then;
		$c->close;
	};
}

# What becomes of a kept connection, the reply to a second message, how many connections there were then, and what is
# done between the messages
my @kept = (
	[ 'goes on', serves(5), 250, 1 ],
	[ 'was closed', serves(1), 250, 2 ],
	[ 'was reset', serves(1, sub { $_[0]->reset }), 250, 2 ],
	[ 'said that it was silent for too long', serves(1, sub {
		wait_until { unlink "$dir/silent" };
		$_[0]->send("COMMAND READ TIMED OUT\0");
		$_[0]->note('said so');
	}), 250, 2, sub { write_file("$dir/silent", ''); my ($fake) = @_; wait_until { grep { /said so/ } $fake->notes } } ],
	[ 'is closed behind the next command', serves(1, sub { command($_[0]) }), 250, 2 ],
	[ 'is closed behind the next message', serves(1, sub { taken($_[0]) }), 250, 2 ],
	[ 'complains of the next message, without its number', serves(1, sub { taken($_[0]); $_[0]->send("COMMAND READ TIMED OUT\0") }), 250, 2 ],
	[ 'is silent', serves(1, sub { taken($_[0]); $_[0]->hold }), 451, 1 ],
	[ 'has the old number', serves(1, sub { taken($_[0]); $_[0]->send("1: stream: OK\0"); $_[0]->hold }), 250, 2 ],
	[ 'fails', serves(1, sub { taken($_[0]); $_[0]->send("2: stream: broken ERROR\0"); $_[0]->hold }), 451, 1 ],
);
for my $case (@kept) {
	my ($name, $script, $want, $connections, $between) = @$case;
	my $fake = FakeService->start($script);
	my $proxy = proxy("clamd virus { socket @{[ $fake->addr ]}; timeout 3s }\nrule { chain virus }");

	is(sent($proxy), 250, "a kept connection that $name: the first message");
	$between->($fake) if $between;
	is(sent($proxy), $want, "a kept connection that $name: the second");
	is($fake->count, $connections, "a kept connection that $name: connections");
}

# ---- side by side ----------------------------------------------------------------------------------

# Each answers when both have the message: so one that waits for the other's end fails.
for my $case ([ '', 250, 'two that only look do so at the same time' ], [ 'mark X-Virus', 451, 'one that marks comes before the next' ]) {
	my ($options, $want, $name) = @$case;
	my $meet = temp_dir();
	my ($one, $two) = map {
		my ($mine, $others) = @$_;
		FakeService->start(sub {
			taken($_[0]);
			write_file("$meet/$mine", '');
			wait_until { -e "$meet/$others" } or return;
			$_[0]->send(id($_[0]) . "stream: OK\0");
			$_[0]->hold;
		});
	} [ 'one', 'two' ], [ 'two', 'one' ];
	my $proxy = proxy("clamd one { socket @{[ $one->addr ]}; timeout 2s; $options }\nclamd two { socket @{[ $two->addr ]}; timeout 2s; $options }\n"
		. 'rule { chain one two }');

	is(sent($proxy), $want, $name);
}

# ---- wrong configurations --------------------------------------------------------------------------

sub said
{
	my ($options) = @_;
	my $proxy = bless { dir => temp_dir() }, 'TestProxy';
	my $file = "$proxy->{dir}/p";

	write_file($file, "listener front { listen 127.0.0.1:10025; backend inner }\nbackend inner { discard yes }\n"
		. "clamd f { $options }\ndefault_chain f\n");
	my $out = `'@{[ $proxy->program ]}' -T -c '$file' 2>&1 >/dev/null </dev/null`;
	return $out =~ s/^\Q$file\E:3:1: clamd f: //r =~ s/\n\z//r;
}

my @wrong = (
	[ 'socket /run/clamav/clamd.ctl', 'socket: "/run/clamav/clamd.ctl" is not an address (try unix:/run/clamav/clamd.ctl)' ],
	[ 'socket inet:3310', 'socket: "inet:3310" is not an address (try inet:PORT@HOST, or HOST:PORT)' ],
	[ 'socket fd:clamd', 'socket: "fd:clamd" is a socket to listen on, not one to connect to (try unix:/path or HOST:PORT)' ],
	[ 'socket 127.0.0.1:3310 127.0.0.1:0', 'socket: "127.0.0.1:0" has port 0, where nothing can listen' ],
	[ 'socket 127.0.0.1:3310; transfer fildes', 'transfer fildes needs a Unix socket, which 127.0.0.1:3310 is not (try transfer instream)' ],
	[ 'verdict pass', 'it does nothing: give it mark, or another verdict than pass' ],
	[ 'mark X-Virus:', 'mark: "X-Virus:" is no name of a header field (it stands without its colon)' ],
	[ 'code 450', 'code 450 is no reject (a code for it begins with 5)' ],
);
is(said($_->[0]), $_->[1], "told: $_->[0]") for @wrong;
is(said($_), '', "good: $_") for '', 'socket inet:3310@localhost unix:/run/c', 'verdict pass; mark X-Virus';

done_testing;
