#!/usr/bin/perl
# The filter address: who else gets the message, who instead, and from whom.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};

my $sink = SmtpSink->start;
my $content = "Subject: x\r\n\r\n.body\r\n";

sub conf
{
	my ($filters) = @_;

	return <<"CONF";
workers 1
local_domains example.org .sub.example.org
listener early { listen 127.0.0.1:0; backend inner; received no }
listener late { listen 127.0.0.1:0; backend inner; envelope late; received no }
backend inner { hosts @{[ $sink->addr ]} }
default_chain none
$filters
CONF
}

# ---- what becomes of the envelope ------------------------------------------------------------

# name, filters (the chain is all of them, in their order), to whom, "from: recipients with parameters" or '' when it is
# dropped; then, if it is another one, the content
my @cases = (
	[ 'a watcher', 'address a { add_recipient w@example.org }', ['b@x.example'], 'S: b@x.example, w@example.org NOTIFY=NEVER' ],
	[ 'several watchers of several', 'address a { add_recipient w@example.org v@sub.example.org u@a.sub.example.org; external yes }',
		[ 'b@x.example', 'c@x.example' ],
		'S: b@x.example, c@x.example, w@example.org NOTIFY=NEVER, v@sub.example.org NOTIFY=NEVER, u@a.sub.example.org NOTIFY=NEVER' ],
	[ 'a watcher who is a recipient already', 'address a { add_recipient w@example.org }', [ 'b@x.example', 'w@EXAMPLE.org' ],
		'S: b@x.example, w@EXAMPLE.org' ],
	[ 'a watcher on a recipient', 'address a { recipient b@x.example; add_recipient w@example.org }', [ 'c@x.example', 'B@x.example' ],
		'S: c@x.example, B@x.example, w@example.org NOTIFY=NEVER' ],
	[ 'a watcher on another recipient', 'address a { recipient b@x.example; add_recipient w@example.org }', ['c@x.example'], 'S: c@x.example' ],
	[ 'a watcher on a pair', 'address a { only_sender S; recipient @x.example; add_recipient w@example.org }', ['c@x.example'],
		'S: c@x.example, w@example.org NOTIFY=NEVER' ],
	[ 'a watcher on another pair', 'address a { only_sender other@x.example; recipient @x.example; add_recipient w@example.org }', ['c@x.example'],
		'S: c@x.example' ],
	[ 'a redirection', 'address a { redirect r@example.org }', ['b@x.example'], 'S: r@example.org' ],
	[ 'a redirection to several', 'address a { redirect r@example.org q@example.org }', ['b@x.example'], 'S: r@example.org, q@example.org' ],
	[ 'a redirection of one of several', 'address a { recipient b@x.example; redirect r@example.org }',
		[ 'a@x.example', 'b@x.example', 'c@x.example' ], 'S: a@x.example, c@x.example, r@example.org' ],
	[ 'a redirection of several to one', 'address a { redirect r@example.org }', [ 'a@x.example', 'b@x.example' ], 'S: r@example.org' ],
	[ 'a redirection to one who is there already', 'address a { recipient b@x.example; redirect r@example.org }',
		[ 'r@example.org', 'b@x.example' ], 'S: r@example.org' ],
	[ 'a redirection to the same and another', 'address a { redirect b@x.example r@example.org; external yes }', ['b@x.example'],
		'S: b@x.example, r@example.org' ],
	[ 'a redirection by pattern', 'address a { recipient /^old-/; redirect r@example.org }', [ 'old-x@x.example', 'new@x.example' ],
		'S: new@x.example, r@example.org' ],
	[ 'a redirection of local mail', 'address a { recipient local_domains; redirect r@example.org }', [ 'b@example.org', 'b@x.example' ],
		'S: b@x.example, r@example.org' ],
	[ 'parameters go to who stands in the place', 'address a { recipient /b@/; redirect r@example.org }',
		[ 'a@x.example', 'b@x.example NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;b@x.example' ],
		'S: a@x.example, r@example.org NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;b@x.example' ],
	[ 'a recipient is taken away', 'address a { recipient b@x.example; remove yes }', [ 'a@x.example', 'b@x.example' ], 'S: a@x.example' ],
	[ 'the last recipient is taken away', 'address a { remove yes }', [ 'a@x.example', 'b@x.example' ], '' ],
	[ 'another sender', 'address a { set_sender new@y.example }', ['b@x.example'], 'new@y.example: b@x.example' ],
	[ 'the null sender', 'address a { set_sender <> }', ['b@x.example'], ': b@x.example' ],
	[ 'another sender for some', 'address a { recipient c@x.example; set_sender new@y.example }', ['b@x.example'], 'S: b@x.example' ],
	[ 'a mark', 'address a { recipient b@x.example; redirect r@example.org; add_header X-Redirected "for b" }', ['b@x.example'],
		'S: r@example.org', "Subject: x\r\nX-Redirected: for b\r\n\r\n.body\r\n" ],
	[ 'no mark on others', 'address a { recipient b@x.example; redirect r@example.org; add_header X-Redirected "for b" }', ['c@x.example'],
		'S: c@x.example' ],
	[ 'later filters look at who was redirected', 'address a { redirect r@example.org }; address b { recipient r@example.org; add_recipient w@example.org }',
		['b@x.example'], 'S: r@example.org, w@example.org NOTIFY=NEVER' ],
	[ 'and not at who is gone', 'address a { redirect r@example.org }; address b { recipient b@x.example; add_recipient w@example.org }',
		['b@x.example'], 'S: r@example.org' ],
	[ 'a redirection is redirected', 'address a { redirect r@example.org }; address b { redirect q@example.org }', ['b@x.example'], 'S: q@example.org' ],
	[ 'and a watcher is', 'address a { add_recipient w@example.org }; address b { recipient w@example.org; redirect v@example.org }',
		['b@x.example'], 'S: b@x.example, v@example.org NOTIFY=NEVER' ],
	[ 'edits of the header by others stay', 'header h { add X-A 1 }; address a { redirect r@example.org }; header i { add X-B 2 }', ['b@x.example'],
		'S: r@example.org', "Subject: x\r\nX-A: 1\r\nX-B: 2\r\n\r\n.body\r\n" ],
	[ 'a filter that rejects after it', 'address a { redirect r@example.org }; always no { }', ['b@x.example'], undef ],
	[ 'not where it may not', 'address a { redirect r@example.org; may none }', ['b@x.example'], 'S: b@x.example' ],
	[ 'a shadow changes nothing', 'address a { redirect r@example.org; shadow yes }', ['b@x.example'], 'S: b@x.example' ],
);

# Each case has a sender of its own, S, and filters with names of their own.
sub own_filters
{
	my ($i) = @_;
	my $filters = $cases[$i][1] =~ s/\bS\b/s$i\@example.net/gr;
	my @names = map { "$_$i" } $filters =~ /(?:address|header|always) (\w+) \{/g;

	$filters =~ s/((?:address|header|always) \w+) \{/$1$i {/g;
	return "$filters\nrule { sender s$i\@example.net; chain @names }\n";
}

my $proxy = TestProxy->start(conf(join '', map { own_filters($_) } 0 .. $#cases));

sub give
{
	my ($listener, $from, @to) = @_;
	my $c = $proxy->client($listener);

	$c->ehlo;
	is($c->mail($from), 250, 'MAIL');
	for my $to (@to) {
		my ($addr, @params) = split ' ', $to;

		is($c->rcpt($addr, @params), 250, "RCPT $addr");
	}
	is($c->data, 354, 'DATA');
	$c->send(SmtpClient::stuffed($content));
	return $c->read_reply;
}

sub delivered
{
	my ($m) = @_;
	my ($from) = $m->{mail} =~ /^FROM:<([^>]*)>/;

	return "$from: " . join ', ', map { s/^TO:<([^>]*)>/$1/r } @{ $m->{rcpt_ok} };
}

for my $listener ('late', 'early') {
	for my $i (0 .. $#cases) {
		my ($name, undef, $to, $want, $want_content) = @{ $cases[$i] };

		subtest "$listener: $name" => sub {
			my $before = $sink->count;
			my $reply = give($listener, "s$i\@example.net", @$to);

			is($reply, defined $want ? 250 : 550, 'the answer');
			is($sink->count, $before + ($want ? 1 : 0), $want ? 'it is delivered once' : 'nothing is delivered') or return;
			return unless $want;
			my $m = ($sink->messages)[-1];
			is(delivered($m), $want =~ s/^S/s$i\@example.net/r, 'to whom, and from whom');
			is($m->{content}, $want_content // $content, 'its content');
		};
	}
}

subtest 'a message that is dropped is told' => sub {
	my ($dropped) = grep { $cases[$_][3] eq '' } grep { defined $cases[$_][3] } 0 .. $#cases;

	ok($proxy->wait_log(qr/ envelope from=<s$dropped\@example\.net> rcpts=0 added=0 removed=2\n/), 'how many were taken away');
	ok($proxy->wait_log(qr/ msg .*from=<s$dropped\@example\.net> .*verdict=discard code=250 /), 'and the verdict is discard');
};

# ---- what is wrong in a configuration --------------------------------------------------------

sub told
{
	my ($options, $more) = @_;
	my $dir = temp_dir();

	write_file("$dir/p", "local_domains example.org\nlistener front { listen 127.0.0.1:0; backend inner; envelope late }\n"
		. "backend inner { hosts 127.0.0.1:26 }\ndefault_chain a\naddress a { $options }\n" . ($more // ''));
	return `cd $dir && @{[ abs_program() ]} -T -c p 2>&1 >/dev/null`;
}

sub abs_program { require File::Spec; return File::Spec->rel2abs($ENV{POSTERN} // builddir() . '/postern') }

my @wrong = (
	[ '', 'p:5:1: address a: it does nothing: give it add_recipient, redirect, remove, set_sender or add_header' ],
	[ 'recipient b@x.example', 'p:5:1: address a: it does nothing: give it add_recipient, redirect, remove, set_sender or add_header' ],
	[ 'redirect a@example.org; remove yes', 'p:5:1: address a: redirect takes those recipients away already: remove has no sense beside it' ],
	[ 'redirect a@x.example', 'p:5:22: redirect: a@x.example is not in local_domains (external yes allows it)' ],
	[ 'add_recipient a@example.org a@x.example', 'p:5:41: add_recipient: a@x.example is not in local_domains (external yes allows it)' ],
	[ 'redirect @example.org', 'p:5:22: redirect: "@example.org" is not an address: it names one mailbox (try postmaster@example.org)' ],
	[ 'redirect a', 'p:5:22: redirect: "a" is not an address: it names one mailbox (try postmaster@example.org)' ],
	[ 'redirect /a@example.org/', 'p:5:22: redirect: "a@example.org" is not an address: it names one mailbox (try postmaster@example.org)' ],
	[ 'redirect a@b@example.org', qr/^p:5:22: redirect: "a\@b\@example\.org" is not an address: / ],
	[ 'redirect <a@example.org>', qr/^p:5:22: redirect: "<a\@example\.org>" is not an address: / ],
	[ 'redirect "a b@example.org"', qr/^p:5:22: redirect: "a b\@example\.org" is not an address: / ],
	[ 'redirect "@x:a@example.org"', qr/^p:5:22: redirect: "\@x:a\@example\.org" is not an address: / ],
	[ "redirect \xc3\xa4\@example.org", qr/^p:5:22: redirect: ".*" is not an address: / ],
	[ 'redirect ' . 'a' x 600 . '@example.org', 'p:5:22: redirect: the address is longer than 510 octets' ],
	[ 'set_sender a', 'p:5:13: set_sender: "a" is not an address: it names one mailbox (try postmaster@example.org)' ],
	[ 'recipient a; remove yes', 'p:5:23: recipient: "a" is not an address (try @a for all of a domain)' ],
	[ 'add_header X-A', 'p:5:1: address a: add_header: a value is missing behind X-A (values with blanks stand in quotes)' ],
	[ 'add_header Received x', 'p:5:1: address a: add_header: Received lines must stay, mail loops are found by them' ],
);

for my $case (@wrong) {
	my ($options, $want) = @$case;
	my $out = told($options);

	if (ref $want) { like($out, $want, "told: $options") }
	else { is($out, "$want\n", "told: " . substr $options, 0, 60) }
}
is(told('redirect a@x.example; external yes'), '', 'external yes allows what is not ours');
is(told('set_sender a@x.example'), '', 'a sender may be anybody');

# ---- -t --------------------------------------------------------------------------------------

sub warned
{
	my ($listener, $filters) = @_;
	my $dir = temp_dir();

	write_file("$dir/p", "local_domains example.org\nlistener front { listen 127.0.0.1:0; backend inner; $listener }\n"
		. "listener other { listen 127.0.0.1:0; backend inner; envelope late }\nbackend inner { hosts 127.0.0.1:26 }\n$filters\n");
	return `cd $dir && @{[ abs_program() ]} -T -c p 2>&1 >/dev/null`;
}

my $asks = 'envelope early: the back-end is asked about recipients that address a may take away, and its refusals count (try envelope late)';
is(warned('envelope early', "address a { redirect a\@example.org }\ndefault_chain a"), "p:2:53: warning: $asks\n",
	'a redirection behind an early envelope is a warning');
is(warned('', "address a { remove yes }\ndefault_chain a"), "p:2:1: warning: $asks\n", 'also where it is early by default');
is(warned('envelope late', "address a { redirect a\@example.org }\ndefault_chain a"), '', 'not with a late one');
is(warned('', "address a { add_recipient a\@example.org }\ndefault_chain a"), '', 'nor for a watcher');
is(warned('', "address a { redirect a\@example.org; shadow yes }\ndefault_chain a"), '', 'nor for a shadow');
is(warned('', "address a { redirect a\@example.org }\nrule { listener other; chain a }\ndefault_chain none"), '',
	'nor for the chain of another listener');

done_testing();
