#!/usr/bin/perl
# Clients that are silent behind their recipients do not keep connections from those who have a message.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;
use Time::HiRes qw(time sleep);

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR};

my $sink = SmtpSink->start;
my $proxy = TestProxy->start(<<"CONF");
workers 3
listener front { listen 127.0.0.1:0; backend inner; early_hold 60s }
listener late  { listen 127.0.0.1:0; backend inner; envelope late }
backend inner { hosts @{[ $sink->addr ]}; max_connections 5 }
CONF
$proxy->wait_log(qr/ state=up /) or die 'no back-end';

# A session up to its recipient.
sub envelope
{
	my $c = $proxy->client('front');

	$c->ehlo;
	$c->mail('a@example.net');
	$c->expect(250) if $c->rcpt('b@example.org') != 250;
	return $c;
}

sub open_early { return scalar(() = $sink->events =~ /^\d+ line RCPT/mg) }

sub finish
{
	my ($c, $text) = @_;

	return "$text: no DATA" if $c->data != 354;
	$c->send("Subject: $text\r\n\r\n.\r\n");
	return $c->read_reply->code;
}

my @silent = map { envelope() } 1 .. 5;
is(open_early(), 5, 'five silent clients have all five connections');

my $begin = time;
is($proxy->client('late')->send_message, 250, 'a message with its envelope late passes');
is($proxy->client('front')->send_message, 250, 'and one that would have its envelope early');
is($proxy->client('front')->send_message(pipeline => 1), 250, 'pipelined, too');
cmp_ok(time - $begin, '<', 20, 'long before early_hold is over');

is(join(' ', map { finish($silent[$_], "silent $_") } 0 .. 4), '250 250 250 250 250', 'the silent ones may go on');
is(scalar(grep { $_->{ended} eq 'accepted' } $sink->txns), 8, 'each message has arrived once');
my %seen;
$seen{$_}++ for map { $_->{content} =~ /^Subject: (silent \d)/m } $sink->messages;
is_deeply(\%seen, { map { ("silent $_" => 1) } 0 .. 4 }, 'theirs too');

# Nobody waits: they keep what they have.
@silent = map { envelope() } 1 .. 4;
my $count = open_early();
is($proxy->client('late')->send_message, 250, 'while a connection is free nobody is hurried') for 1 .. 3;
sleep 0.3;
my $c = shift @silent;
is(finish($c, 'kept'), 250, 'one goes on');
is(open_early(), $count + 3, 'without giving its recipient again');

# More at once than there are connections.
my @waiting = map { my $w = $proxy->client('late'); $w->ehlo; $w } 1 .. 20;
push @silent, map { envelope() } 1 .. 20;
for my $w (@waiting) {
	$w->send("MAIL FROM:<a\@example.net>\r\nRCPT TO:<b\@example.org>\r\nDATA\r\n");
	$w->expect($_) for 250, 250, 354;
	$w->send("x\r\n.\r\n");
}
is(join(' ', map { $_->read_reply } @waiting), join(' ', (250) x 20), 'twenty that wait are all served');
is(join(' ', map { finish($_, 'x') } @silent), join(' ', (250) x @silent), 'and all silent ones, when they speak');
is($proxy->stop, 0, 'postern ends in good order');
done_testing;
