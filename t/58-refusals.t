#!/usr/bin/perl
# Whatever goes wrong, the front is told in words that a person can act on, and nothing of how we are built:
# no path, no address, no name of a back-end.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};

my $secret = 'inside.secret.example';	# what the back-end calls itself
my ($dead) = free_port();

# A message to its end; the last reply.
sub message { my ($c, %opt) = @_; return $c->send_message(%opt) }

sub begin { my ($c) = @_; $c->ehlo; $c->mail('a@example.net'); $c->rcpt('b@example.org'); return $c }

# The reply that comes by itself.
sub told { my ($c) = @_; return $c->read_reply }

my $long = "\r\n" . "0123456789\r\n" x 300_000;

# name; code and enhanced code; options of the listener; the back-end (a script of the sink, or the words of the
# configuration); what is done with a client that has its greeting (or, with raw, with one that has not).
# top: more of the configuration; limit: for the process.
my @cases = (
	# who may come
	{ name => 'a stranger', want => '554 5.7.1', front => 'clients 192.0.2.1', raw => \&told },
	{ name => 'one connection too many', want => '421 4.3.2', front => 'max_connections 1', raw => \&second },
	{ name => 'one too many of all', want => '421 4.3.2', top => 'max_connections 1', raw => \&second },
	{ name => 'one too many of an address', want => '421 4.7.0', front => 'max_per_client 1', raw => \&second },
	{ name => 'an early talker', want => '554 5.5.0', front => 'early_talker 20s', raw => sub { $_[0]->command('EHLO x.example') } },
	{ name => 'MAIL in overload', want => '451 4.3.2', top => 'max_connections 8',
		run => sub { my ($c, $proxy) = @_; my @more = map { $proxy->client } 1 .. 7; $c->ehlo; return $c->mail('a@example.net') } },
	{ name => 'a stop', want => '421 4.3.2', run => sub { my ($c, $proxy) = @_; $proxy->signal('TERM'); return told($c) } },

	# what may be said
	{ name => 'a line too long', want => '500 5.5.6', run => sub { $_[0]->command('x' x 5000) } },
	{ name => 'HTTP', want => '554 5.5.0', run => sub { $_[0]->command('GET / HTTP/1.0') } },
	{ name => 'too many errors', want => '421 4.7.0', front => 'max_errors 1', run => sub { $_[0]->command('FOO'); return told($_[0]) } },
	{ name => 'silence', want => '421 4.4.2', front => 'idle_timeout 200ms', run => \&told },
	{ name => 'silence in a command', want => '421 4.4.2', front => 'command_timeout 200ms', run => sub { $_[0]->send('EHL'); return told($_[0]) } },
	{ name => 'content that stops', want => '421 4.4.2', front => 'data_timeout 200ms',
		run => sub { my $c = begin($_[0]); $c->data; return told($c) } },
	{ name => 'a SIZE too large', want => '552 5.3.4', front => 'max_message 1K', run => sub { my ($c) = @_; $c->ehlo; return $c->mail('a@example.net', 'SIZE=5000') } },
	{ name => 'a message too large', want => '552 5.3.4', front => 'max_message 1K', run => sub { message($_[0], content => "\r\n" . "x\r\n" x 1000) } },
	{ name => 'a recipient too many', want => '452 4.5.3', front => 'max_recipients 1', run => sub { begin($_[0])->rcpt('c@example.org') } },
	{ name => 'a header too long', want => '554 5.6.0', run => sub { message($_[0], content => "X-Long: @{[ 'h' x 1_100_000 ]}\r\n\r\n") } },
	{ name => 'a loop', want => '554 5.4.6', front => 'max_hops 2', run => sub { message($_[0], content => "Received: x\r\n" x 3 . "\r\n") } },
	{ name => 'a bare newline', want => '550 5.6.11', front => 'bare_newline reject', run => sub { message($_[0], content => "a\nb\r\n") } },

	# where content is kept
	{ name => 'no room', want => '452 4.3.1', top => 'spool { directory %d/sp; min_free 1000T }' },
	{ name => 'a SIZE without room', want => '452 4.3.1', front => 'max_message 0', run => sub { my ($c) = @_; $c->ehlo; return $c->mail('a@example.net', 'SIZE=999999999999999') } },
	{ name => 'content that cannot be kept', want => '452 4.3.1', limit => '-f 2000', run => sub { message($_[0], content => $long) } },
	{ name => 'a spool that has gone', want => '452 4.3.1', top => 'spool { directory %d/sp }',
		run => sub { my ($c, $proxy) = @_; $c->ehlo; rmdir $proxy->dir . '/sp'; return message($c, content => $long) } },

	# the back-end
	(map {
		my $late = $_;
		my $front = $late ? 'envelope late; received no' : 'received no';
		my $how = $late ? 'late' : 'early';
		({ name => "$how: nobody listens", want => '451 4.4.1', front => $front, back => "hosts 127.0.0.1:$dead" },
		{ name => "$how: a name that is none", want => '451 4.4.1', front => $front, back => 'hosts nowhere.invalid:25' },
		{ name => "$how: a Unix socket that is not there", want => '451 4.4.1', front => $front, back => 'hosts unix:/no/secret/socket' },
		{ name => "$how: a silent greeting", want => '451 4.4.1', front => $front, script => { greeting => 'silent' }, back => 'greeting_timeout 300ms' },
		{ name => "$how: a refusing greeting", want => '451 4.4.1', front => $front, script => { greeting => "554 $secret says no" } },
		{ name => "$how: a refused EHLO", want => '451 4.4.1', front => $front, script => { ehlo => "550 $secret says no", helo => "550 $secret says no" } },
		{ name => "$how: a refused hop", want => '451 4.3.5', front => $front, script => { mail => "530 5.7.0 $secret wants AUTH" } },
		{ name => "$how: garbage for a reply", want => '451', front => $front, script => { mail => { raw => "$secret\r\n" } } },
		{ name => "$how: MAIL and the end", want => '451', front => $front, script => { mail => 'close' } },
		{ name => "$how: RCPT and the end", want => '451', front => $front, script => { rcpt => 'rst' } },
		{ name => "$how: DATA and the end", want => '451', front => $front, script => { data => 'close' } },
		{ name => "$how: the end instead of an answer", want => '451', front => $front, script => { final => 'close' } },
		{ name => "$how: no answer", want => '451', front => $front, script => { final => 'silent' }, back => 'final_timeout 300ms' },
		{ name => "$how: all connections in use", want => '451 4.3.2', front => "$front; budget 1500ms; final_reserve 500ms; early_hold 20s",
			back => 'max_connections 1', script => { final => { reply => '250 ok', wait => 'never' } },
			run => sub {
				my ($c, $proxy) = @_;
				my $other = begin($proxy->client);
				$other->data;
				$other->send("x\r\n.\r\n");
				$other->is_silent(0.3);
				return message($c);
			} })
	} 0, 1),
	{ name => 'a maildir that is not there', want => '451', back => 'maildir /no/secret/maildir' },
	{ name => 'a maildir that may not be written', want => '451', back => 'maildir /proc/secret' },

	# filters
	{ name => 'a filter that takes too long', want => '451', top => 'dummy secretfilter { wait 10s; timeout 200ms }' . "\ndefault_chain secretfilter" },
	{ name => 'filters that take too long', want => '451', front => 'budget 1s; final_reserve 500ms',
		top => 'dummy secretfilter { wait 10s }' . "\ndefault_chain secretfilter" },
);

# The second connection of this address: ours is the first.
sub second
{
	my ($c, $proxy) = @_;

	return $c->read_reply == 220 ? SmtpClient->new($proxy->addr)->read_reply : $c->read_reply;
}

sub is_discreet
{
	my ($reply, $name, $proxy, $sink) = @_;
	my $raw = $reply->raw;
	my @told = grep { index($raw, $_) >= 0 } '/', '127.', 'localhost', 'unix:', $secret, 'secret', 'zzinner', 'zzfront',
	    $proxy->dir, $dead, $sink->port;

	like($raw, qr/\A(?:[45]\d\d-[\x20-\x7e]+\r\n)*[45]\d\d [245]\.\d+\.\d+ [\x20-\x7e]+\r\n\z/, "$name: the reply is well formed");
	is("@told", '', "$name: it tells nothing of what is inside") or diag $raw;
	return;
}

for my $case (@cases) {
	my $name = $case->{name};
	my $sink = SmtpSink->start(%{ $case->{script} // {} });
	my $back = $case->{back} // '';
	$back = "hosts @{[ $sink->addr ]}; $back" unless $back =~ /^(?:hosts|maildir)/;
	my $proxy = TestProxy->start(<<"CONF", $case->{limit} ? (limit => $case->{limit}) : ());
hostname gate.example
workers 1
drain_timeout 200ms
@{[ $case->{top} // '' ]}
listener zzfront { listen 127.0.0.1:0; backend zzinner; @{[ $case->{front} // '' ]} }
backend zzinner { $back }
CONF
	my $run = $case->{raw} // $case->{run} // sub { return message($_[0]) };
	my $c = $case->{raw} ? SmtpClient->new($proxy->addr) : $proxy->client;
	my $reply = $run->($c, $proxy);

	is(join(' ', $reply, $case->{want} =~ / / ? $reply->enhanced // '' : ()), $case->{want}, "$name: $case->{want}")
	    or diag $reply->raw, $proxy->log;
	is_discreet($reply, $name, $proxy, $sink);
	$sink->stop;	# or what has its dot on the way would be waited for
}
cmp_ok(scalar @cases, '>=', 50, 'there are enough of them');
done_testing;
