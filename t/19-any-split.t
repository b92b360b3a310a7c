#!/usr/bin/perl
# However the network cuts what a client says, the replies and what reaches the back-end are the same: random
# sessions of pipelined groups, once in whole groups and then in random pieces.
use strict;
use warnings;
use Test::More;
use TestProxy;
use SmtpSink;

my @REPLIES = (final => '250 2.0.0 Ok', rcpt => '250 2.1.5 Ok');
my $sink = SmtpSink->start(@REPLIES);
# Behind a pipelined envelope content does not go by BDAT.
my $stepwise = SmtpSink->start(@REPLIES, caps => ['SIZE 104857600', '8BITMIME', 'SMTPUTF8', 'CHUNKING']);
my $options = 'received no; max_errors 10000; max_message 3000; max_recipients 3';
my $proxy = TestProxy->start(<<"CONF");
listener early { listen 127.0.0.1:0; backend inner; $options }
listener late  { listen 127.0.0.1:0; backend inner; $options; envelope late }
listener chunked_early { listen 127.0.0.1:0; backend chunked; $options }
listener chunked_late  { listen 127.0.0.1:0; backend stepwise; $options; envelope late }
backend  inner { hosts @{[ $sink->addr ]} }
backend  chunked { hosts @{[ $sink->addr ]}; chunking yes }
backend  stepwise { hosts @{[ $stepwise->addr ]}; chunking yes }
spool    { directory %d/spool; inline 1K }
CONF
# EHLO offers what the back-end does.
$proxy->wait_log(qr/backend=$_ state=up/) or die 'no back-end' for qw(inner chunked stepwise);
my $seed = $ENV{POSTERN_TEST_SEED} // time;
srand $seed;

sub any { return $_[rand @_] }

# Content that would like to be more than that.
sub any_content
{
	return join '', map { any("text\r\n", "\r\n", '.', "\r\n.", "\n.\r\n", "\r.\r", "..\r\n", "QUIT\r\n", "RSET\r\n",
		"MAIL FROM:<evil\@example.net>\r\n", 'x' x rand 2000, "\0") } 0 .. rand 8;
}

# As any_content, but without the end of data inside.
sub any_data
{
	my $content;

	do { $content = any_content() . "\r\n" } while $content =~ /(?:\A|\r\n)\.\r\n/;
	return "$content.\r\n";
}

sub any_bdat
{
	my $content = any_content();

	return sprintf "BDAT %d%s\r\n%s", length $content, any('', '', ' LAST'), $content;
}

sub any_command
{
	return any(\&any_bdat, \&any_bdat, \&any_bdat, map { my $line = "$_\r\n"; sub { $line } } 'NOOP', 'RSET',
		'VRFY x', 'HELP', ("MAIL FROM:<a\@example.net>") x 4, ("RCPT TO:<b\@example.org>") x 5, 'MAIL FROM:<a',
		'RCPT TO:<">"@example.org>', 'MAIL FROM:<a@example.net> SIZE=4000', 'FOO', "NO\rOP", 'RCPT TO:<',
		'', ' ', 'NOOP ' . 'y' x 2041, 'NOOP ' . 'y' x 2042, 'z' x 70000)->();
}

# Groups, each with the number of its replies; content is only sent when the last one was 354.
sub any_session
{
	my @groups;

	for (1 .. 6) {
		my @commands = map { any_command() } 0 .. rand 7;
		unshift @commands, "MAIL FROM:<a\@example.net>\r\n", "RCPT TO:<b\@example.org>\r\n" if rand() < 0.5;
		push @commands, "DATA\r\n" if rand() < 0.7;
		push @groups, { octets => join('', @commands), replies => scalar @commands, content => any_data() };
	}
	return @groups;
}

# Returns all replies and all that reached the back-end, as text.
sub play
{
	my ($listener, $split, @groups) = @_;
	my $client = $proxy->client($listener);
	my @seen;
	my $say = sub {
		my ($octets, $replies) = @_;
		$split->($client, $octets);
		push @seen, map { $client->read_reply->raw || 'no reply' } 1 .. $replies;
		return $seen[-1] // '';
	};

	$say->("EHLO client.example\r\n", 1);
	my $content = '';
	for my $group (@groups) {
		my $replies = $group->{replies} + ($content ne '');
		my $last = $say->($content . $group->{octets}, $replies);
		$content = $last =~ /^354/ ? $group->{content} : '';
	}
	$say->("${content}QUIT\r\n", 1 + ($content ne ''));
	push @seen, $client->wait_eof ? 'the end' : 'no end', $client->pending;
	# Only messages: whether an envelope that came to nothing was told there is a matter of time.
	my @taken = grep { $_->{ended} eq 'accepted' } ($listener eq 'chunked_late' ? $stepwise : $sink)->new_txns;
	push @seen, map { join ' ', $_->{mail}, @{ $_->{rcpt_ok} }, $_->{content} } @taken;
	push @seen, 'it came by the other verb' if grep { $listener =~ /chunked/ xor $_->{bdat} } @taken;
	return join "\n", @seen;
}

sub in_whole { my ($client, $octets) = @_; return $client->send($octets) }

# Few or many pieces; some so quick after each other that they arrive together.
sub in_pieces
{
	my ($client, $octets) = @_;
	my @cuts = sort { $a <=> $b } map { int rand length $octets } 0 .. any(0, 1, 2, 5, 20);
	my $at = 0;

	for my $cut (@cuts, length $octets) {
		$client->send(substr $octets, $at, $cut - $at);
		$at = $cut;
		select undef, undef, undef, 0.001 if rand() < 0.7;
	}
	return;
}

sub in_octets
{
	my ($client, $octets) = @_;

	$client->send($_) for length $octets < 4000 ? split //, $octets : $octets;
	return;
}

my (@trouble, $messages);
for my $round (1 .. 60) {
	my @groups = any_session();
	my $listener = any('early', 'late', 'chunked_early', 'chunked_late');
	my $want = play($listener, \&in_whole, @groups);
	$messages += () = $want =~ /^FROM:/mg;
	push @trouble, "round $round: replies are missing: $want" if $want =~ /^no (?:reply|end)$/m;
	push @trouble, "round $round: $listener: $want" if $want =~ /^it came by the other verb$/m;
	for my $split (\&in_pieces, \&in_pieces, \&in_octets) {
		my $got = play($listener, $split, @groups);
		next if $got eq $want;
		push @trouble, "round $round:\n$got\ninstead of\n$want";
		last;
	}
}
is join("\n", @trouble), '', "any split gives the same replies and messages (seed $seed)";
cmp_ok $messages, '>', 20, 'with messages among them';
is $proxy->stop, 0, 'postern ends in good order';
done_testing;
