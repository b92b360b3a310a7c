#!/usr/bin/perl
# A table: what a back-end may do wrong at each step, and what the front hears of it.
#
# Each case is tried with the envelope early and late, with PIPELINING and without, with content by DATA and by
# BDAT (which never follows a pipelined envelope). The front gets exactly one reply, 2xx only for what the
# back-end took, and the next message passes at once.
#
# t/61-tls-faults.t runs this file, too, with other variants.
use strict;
use warnings;
use JSON::PP ();
use POSIX ();
use Test::More;
use Time::HiRes 'time';
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

our (%MORE_SINK, @MORE_FAULTS, %MORE_EARLY, @MORE_CASES); # for the back-end; what else goes wrong
our $MORE_OPTIONS //= '';
our $KINDS //= qr/./; # which variants
our $LANES //= 3; # each with a part of the cases: they mostly wait
our $EHLO //= 'ehlo'; # which of the sink's steps that is

my $TIMEOUT = int(1500 * $TestUtil::PATIENCE);
my $BIG = 'Subject: big' . "\r\n\r\n" . ('0123456789 ' x 7 . "\r\n") x 120_000;
my $SOME = substr $BIG, 0, 79 * 2000 + 16; # by BDAT that is a chunk, and an empty one behind it

# ---- what goes wrong -----------------------------------------------------------------------

# Steps in their order, with the code that would be right there. By BDAT the envelope is given the same way,
# but its replies are heard before content leaves; `last` is the end of a message in two chunks.
my @STEPS = ([greeting => 220], [ehlo => 250], [mail => 250], [rcpt => 250], [data => 354], [final => 250]);
my @CHUNK_STEPS = ([mail => 250], [rcpt => 250], [bdat => 250], [final => 250], [last => 250]);

# name, what the sink does (CODE stands for the right code). The front gets 451.
my @FAULTS = (
	['closes', 'close'],
	['resets the connection', 'rst'],
	['is silent', 'silent'],
	['answers an empty line', { raw => "\r\n" }],
	['answers garbage', { raw => "\x01\xfe hello\r\n" }],
	['answers with NUL', { raw => "CODE o\0k\r\n" }],
	['ends its line in LF only', { raw => "CODE ok\n" }],
	['has a CR inside its line', { raw => "CODE o\rk\r\n" }],
	['is cut inside its line', { raw => 'CODE 2.0.0 o', then => 'close' }],
	['is cut before the LF', { raw => "CODE 2.0.0 ok\r", then => 'close' }],
	['is cut between two lines', { raw => "CODE-first\r\n", then => 'close' }],
	['is cut between two lines by RST', { raw => "CODE-first\r\n", then => 'rst' }],
	['stops between two lines', { raw => "CODE-first\r\n", then => 'silent' }],
	['has two codes in one reply', { raw => "CODE-first\r\n451 second\r\n" }],
	['answers twice', { reply => 'CODE 2.0.0 ok', twice => 1 }],
	['changes its mind', { raw => "CODE ok\r\n550 5.0.0 or not\r\n" }],
	['answers with code 999', '999 what'],
	['answers with code 600', '600 what'],
	['answers with code 100', '100 what'],
	['answers with a code of two digits', { raw => "25 ok\r\n" }],
	['answers with a code of four digits', { raw => "2500 ok\r\n" }],
	['has no space behind its code', { raw => "CODEok\r\n" }],
	['answers 399', '399 what'],
	['answers in 300 lines', { reply => 'CODE ' . join "\n", 1 .. 300 }],
	['answers without end', { raw => "CODE-again\r\n", endless => 1 }],
	['answers with a line of 100 KB', { raw => 'CODE ' . 'x' x 102_400 . "\r\n" }],
	['answers with a line without end', { raw => 'x' x 4096, endless => 1 }],
	['trickles', { raw => 'CODE ' . 'x' x 80 . "\r\n", drip => 0.1 }],
	['closes down', { raw => "421 4.3.2 closing down\r\n", then => 'close' }],
	['says 421 and goes on', '421 4.3.2 busy'],
	@MORE_FAULTS,
);

# Refusals: the code and lines are the back-end's, but for those that concern only our hop.
my @REFUSALS = (
	(map { [$_, "$_ 4.2.0 come again\nlater"] } 450, 451, 452, 455),
	(map { [$_, "$_ 5.7.1 first reason\nsecond reason"] } 550, 552, 553, 554, 555),
	(map { [451, "$_ 5.5.1 our hop"] } 500 .. 504, 530, 534, 535, 538),
);

# A fault with the right code in place of CODE.
sub scripted
{
	my ($do, $code) = @_;
	my %do = ref $do ? %$do : ();

	return $do =~ s/CODE/$code/r unless ref $do;
	defined $do{$_} and $do{$_} =~ s/CODE/$code/ for qw(reply raw);
	return \%do;
}

# step, name, script for the sink, code for the front, text for the front, listener, content
sub cases
{
	my ($chunked) = @_;
	my @cases;

	for ($chunked ? @CHUNK_STEPS : @STEPS) {
		my ($step, $code) = @$_;
		my $where = $step =~ /greeting|ehlo/ ? 'fresh' : 'pooled';
		my $key = $step eq 'last' ? 'final' : $step eq 'ehlo' ? $EHLO : $step;
		my @more = ($where, $step =~ /bdat|last/ ? $SOME : undef);
		for my $fault (@FAULTS) {
			my ($name, $do) = @$fault;
			push @cases, [$step, "the back-end $name", { $key => scripted($do, $code) }, 451,
				$name =~ /closes down/ && $where eq 'pooled' ? qr/closing down/ : undef, @more];
		}
		# The wrong kind of yes.
		my $other = $code == 354 ? 250 : 354;
		push @cases, [$step, "the back-end answers $other", { $key => "$other ok" }, 451, undef, @more];
		for my $refusal (@REFUSALS) {
			my ($front, $do) = @$refusal;
			my ($said) = $do =~ /^(\d+)/;
			my $text = $front == $said ? qr/(?:come again|first reason)\n.*(?:later|second reason)\z/ : undef;
			($front, $text) = (451, undef) if $step eq 'greeting';
			# A server that does not know EHLO is asked with HELO (RFC 5321 4.1.1.1).
			($front, $text) = ($said =~ /^5/ ? 250 : 451, undef) if $step eq 'ehlo';
			push @cases, [$step, "the back-end answers $said", { $key => $do }, $front, $text, @more];
		}
	}
	push @cases, content_cases($chunked);
	return @cases;
}

# While content is arriving at the back-end.
sub content_cases
{
	my ($chunked) = @_;
	my %early = (
		'closes' => 'close',
		'resets the connection' => 'rst',
		'accepts the message early' => { reply => '250 2.0.0 early', instead => 1 },
		'accepts the message early and again' => '250 2.0.0 early',
		'begins to accept the message early' => { raw => "250-2.0.0 early\r\n" },
		'refuses the message early' => { reply => '552 5.3.4 too big', instead => 1 },
		'says 421 early' => { raw => "421 4.3.2 closing down\r\n", then => 'close' },
		'talks nonsense' => { raw => "\0\1\2", instead => 1 },
		'begins a reply' => { raw => '250', instead => 1 },
		%MORE_EARLY,
	);
	my @cases = map { ['content', "the back-end $_", { body => $early{$_} }, 451, undef, 'patient', $BIG] }
	    sort keys %early;

	push @cases, map { ['content', @$_, 451, undef, 'patient', $BIG] } @MORE_CASES;
	return @cases if $chunked;
	push @cases, ['content', 'the acceptance comes in the packet of the 354',
		{ data => { raw => "354 go ahead\r\n250 2.0.0 taken\r\n" } }, 451, undef, 'patient'];
	push @cases, ['content', 'half of the acceptance comes in the packet of the 354',
		{ data => { raw => "354 go ahead\r\n250 2.0" }, final => { raw => ".0 taken\r\n" } }, 451, undef, 'patient'];
	push @cases, ['content', 'the 354 is followed by an end',
		{ data => { raw => "354 go ahead\r\n", then => 'close' } }, 451, undef, 'patient'];
	return @cases;
}

# ---- one case ------------------------------------------------------------------------------

# The accepted messages since $from that carry this subject.
sub taken
{
	my ($sink, $from, $subject) = @_;
	my @names = $sink->events =~ /^\d+ accepted (\S+)$/mg;

	return grep { read_file($sink->dir . "/$_.wire") =~ /^Subject: \Q$subject\E\r$/m } @names[$from .. $#names];
}

sub play
{
	my ($variant, $number, $case) = @_;
	my ($step, $name, $script, $want, $text, $where, $content) = @$case;
	my $sink = $variant->{sink};
	my ($subject, $next) = ("fault $number", "next $number");
	my %usual = map { $_ => $variant->{usual}{$_} } keys %$script;
	my $from = $sink->count;
	my @wrong;

	$content = defined $content ? $content =~ s/big/$subject/r : "Subject: $subject\r\n\r\ntest\r\n";
	$sink->script(%$script);
	my $c = SmtpClient->connect($variant->{$where}, timeout => 15);
	my $reply = $c->send_message(content => $content);
	# With all commands sent at once, a reply too many is the answer to the next one. By DATA the 354 would tell.
	$want = $reply if $name =~ /changes its mind/ && $step eq 'rcpt' && $variant->{is_late1} && $reply == 550;
	push @wrong, "the front got '" . $reply->raw . "' instead of $want" unless $reply == $want;
	push @wrong, "the text is '" . $reply->text . "'" if $text && $reply->text !~ $text;
	$sink->script(%usual);
	my @taken = taken($sink, $from, $subject);
	push @wrong, scalar(@taken) . ' copies at the back-end' if @taken != ($reply =~ /^2/ ? 1 : $step =~ /final|last/ ? @taken && 1 : 0);

	push @wrong, 'RSET is answered ' . $_->raw for grep { $_ != 250 } $c->rset;
	my $begin = time;
	$reply = $c->send_message(content => "Subject: $next\r\n\r\ntest\r\n");
	push @wrong, "the next message gets '" . $reply->raw . "'" unless $reply == 250;
	push @wrong, 'the next message waits' if time - $begin > 5 * $TestUtil::PATIENCE;
	push @wrong, 'the next message is not there' unless taken($sink, $from, $next) == 1;
	push @wrong, 'QUIT is answered ' . $_->raw for grep { $_ != 221 } $c->quit;
	push @wrong, 'more replies than commands' unless $c->wait_eof && $c->pending eq '';
	return ["$step: $name ($variant->{name})", \@wrong];
}

# Many cases of one variant, in a process of its own.
sub play_all
{
	my ($variant, @cases) = @_;
	my @results;

	for my $i (0 .. $#cases) {
		push @results, eval { play($variant, $i, $cases[$i]) }
		    // ["$cases[$i][0]: $cases[$i][1] ($variant->{name})", ["died: $@"]];
	}
	return JSON::PP::encode_json(\@results);
}

# ---- all of them ---------------------------------------------------------------------------

my @CAPS = ('SIZE 104857600', '8BITMIME', 'ENHANCEDSTATUSCODES');
my %wanted; # by whether content goes by BDAT
# CASE='rcpt: .* is silent' plays only those.
for my $chunked (0, 1) {
	$wanted{$chunked} = [grep { !$ENV{CASE} || "$_->[0]: $_->[1]" =~ /$ENV{CASE}/ } cases($chunked)];
}
my @variants;
my $conf = '';

for my $kind (map { my $verb = $_; map { ["early$_", $verb], ["late$_", $verb] } '', ', pipelining' } 'DATA', 'BDAT') {
	for my $lane (0 .. $LANES - 1) {
		my ($name, $verb) = @$kind;
		next if "$name, $verb" !~ $KINDS;
		my ($envelope, $pipelining) = $name =~ /^(\w+)(.*)/;
		my $chunked = $verb eq 'BDAT' ? 1 : 0;
		next if $chunked && $envelope eq 'late' && $pipelining; # DATA follows a pipelined envelope
		my $id = 'v' . @variants;
		my @caps = (($pipelining ? 'PIPELINING' : ()), ($chunked ? 'CHUNKING' : ()), @CAPS);
		my $sink = SmtpSink->start(caps => \@caps, %MORE_SINK);
		push @variants, { id => $id, lane => $lane, sink => $sink, chunked => $chunked,
			is_late1 => $envelope eq 'late' && $pipelining, name => "$name, $verb",
			usual => { greeting => '220 sink.example ESMTP', $EHLO => join("\n", '250 sink.example', @caps),
				mail => '250 2.1.0 Ok', rcpt => '250 2.1.5 Ok', data => '354 go ahead',
				body => undef, bdat => '250 2.0.0 Ok', final => '250 2.0.0 Ok: queued as SINK%d' } };
		my $addr = $sink->addr;
		my $timeouts = "command_timeout ${TIMEOUT}ms; greeting_timeout ${TIMEOUT}ms; final_timeout ${TIMEOUT}ms"
		    . ($chunked ? '; chunking yes' : '') . "; $MORE_OPTIONS";
		$conf .= <<"CONF";
listener ${id}_pooled { listen 127.0.0.1:0; backend ${id}_pooled; envelope $envelope }
listener ${id}_fresh { listen 127.0.0.1:0; backend ${id}_fresh; envelope $envelope }
listener ${id}_patient { listen 127.0.0.1:0; backend ${id}_patient; envelope $envelope }
backend ${id}_pooled { hosts $addr; $timeouts }
backend ${id}_fresh { hosts $addr; $timeouts; max_idle 0 }
backend ${id}_patient { hosts $addr; chunking @{[ $chunked ? 'yes' : 'no' ]}; $MORE_OPTIONS }
CONF
	}
}
my $proxy = TestProxy->start("workers 2\n$conf");
my @pipes;

for my $v (@variants) {
	$v->{$_} = $proxy->addr("$v->{id}_$_") for qw(pooled fresh patient);
	pipe my $in, my $out or die "pipe: $!";
	if (!(fork // die "fork: $!")) {
		close $in;
		my @cases = @{ $wanted{ $v->{chunked} } };
		print $out play_all($v, @cases[grep { $_ % $LANES == $v->{lane} } 0 .. $#cases]);
		close $out;
		POSIX::_exit(0);
	}
	close $out;
	push @pipes, $in;
}
for my $in (@pipes) {
	local $/;
	for my $result (@{ JSON::PP::decode_json(<$in> || '[["no result", ["no result"]]]') }) {
		my ($name, $wrong) = @$result;
		ok(!@$wrong, $name) or diag join "\n", @$wrong;
	}
}
like $proxy->log, qr/ backend .*does not take what we say/, 'what refuses our hop is an error in the log';

done_testing;
