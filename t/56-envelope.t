#!/usr/bin/perl
# What filters have changed on its way to the back-end: recipients that it refuses, envelopes given early, parameters
# of MAIL and RCPT, new bodies in memory and in files, and that nothing of them is left.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use HttpClient;
use Metrics;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};

my @CAPS = ('PIPELINING', 'SIZE 104857600', '8BITMIME', 'ENHANCEDSTATUSCODES', 'DSN', 'SMTPUTF8', 'CHUNKING');
my $content = "Subject: x\r\n\r\n.body\r\n";
my $dir = temp_dir();

sub caps_without { my %no = map { $_ => 1 } @_; return [ grep { !$no{s/ .*//r} } @CAPS ] }

sub script
{
	my ($name, $text) = @_;

	write_file("$dir/$name", "#!/bin/sh\n$text\n", 0755);
	return "$dir/$name";
}

sub start
{
	my ($sink, $filters, $backend) = @_;

	return TestProxy->start(<<"CONF");
workers 1
local_domains example.org
health { listen 127.0.0.1:0 }
listener early { listen 127.0.0.1:0; backend inner; received no }
listener late { listen 127.0.0.1:0; backend inner; envelope late; received no }
listener traced { listen 127.0.0.1:0; backend inner }
backend inner { hosts @{[ $sink->addr ]}; max_connections 1; @{[ $backend // '' ]} }
default_chain none
$filters
CONF
}

# The reply to the end of data, or to the first recipient that is refused.
sub give
{
	my ($proxy, $listener, $from, $to, %opt) = @_;

	return $proxy->client($listener)->send_message(from => $from, to => $to, content => $opt{content} // $content,
		mail_params => $opt{params});
}

sub metric
{
	my ($proxy, $name, @labels) = @_;


	return Metrics->parse(HttpClient::get($proxy->health_addr, '/metrics')->{body})->value($name, @labels) // 0;
}

sub is_spool_empty
{
	my ($proxy) = @_;

	return wait_until { metric($proxy, 'postern_spool_bytes', where => 'memory') + metric($proxy, 'postern_spool_bytes', where => 'file') == 0 };
}

# ---- recipients that the back-end refuses ----------------------------------------------------

my $ok = '250 2.1.5 Ok';
my $no = '550 5.1.1 no such user';
my $later = '450 4.2.1 later';
my $put_off = qr/^451 4\.3\.0 not all recipients can be served now/;
my $mixed = qr/^451 4\.5\.3 recipients were answered differently/;
my $watch = 'add_recipient w@example.org';
my $redirect = 'recipient b@x.example; redirect r@example.org';
# name, options, to, what the back-end says to whom it is given at last, the answer, who gets it, how many of those
# that were added are refused,
# whether its recipients must come one by one from now on
my @refusals = (
	[ 'all are taken', $watch, ['b@x.example'], [ $ok, $ok ], qr/^250/, 'b@x.example w@example.org', 0, 0 ],
	[ 'a watcher refused for good changes nothing', $watch, ['b@x.example'], [ $ok, $no ], qr/^250/, 'b@x.example', 1, 0 ],
	[ 'a watcher refused for now puts all off', $watch, ['b@x.example'], [ $ok, $later ], $put_off, '', 1, 0 ],
	[ 'one of two watchers refused for good', 'add_recipient w@example.org v@example.org', ['b@x.example'], [ $ok, $no, $ok ], qr/^250/,
		'b@x.example v@example.org', 1, 0 ],
	[ 'a recipient that is refused is answered so, whoever watches', $watch, ['b@x.example'], [ $no, $ok ], qr/^550 5\.1\.1 no such user/, '', 0, 0 ],
	[ 'also when the watcher is refused for now', $watch, ['b@x.example'], [ $no, $later ], qr/^550 5\.1\.1 no such user/, '', 1, 0 ],
	[ 'recipients that are answered differently, watched', $watch, [ 'b@x.example', 'c@x.example' ], [ $ok, $no, $ok ], $mixed, '', 0, 1 ],
	[ 'a redirection that is taken', $redirect, ['b@x.example'], [$ok], qr/^250/, 'r@example.org', 0, 0 ],
	[ 'a redirection refused for good is no bounce, and no loss', $redirect, ['b@x.example'], [$no], $put_off, '', 1, 0 ],
	[ 'a redirection refused for now', $redirect, ['b@x.example'], [$later], $put_off, '', 1, 0 ],
	[ 'one of two redirections refused', 'redirect r@example.org q@example.org', ['b@x.example'], [ $ok, $no ], $mixed, '', 1, 1 ],
	[ 'the redirected one refused, another taken', $redirect, [ 'b@x.example', 'c@x.example' ], [ $ok, $no ], $mixed, '', 1, 1 ],
	[ 'the redirected one taken, another refused', $redirect, [ 'b@x.example', 'c@x.example' ], [ $no, $ok ], $mixed, '', 0, 1 ],
	[ 'the redirected one refused for now, another for good', $redirect, [ 'b@x.example', 'c@x.example' ], [ $no, $later ], $mixed, '', 1, 1 ],
	[ 'all refused for good, one of them redirected', $redirect, [ 'b@x.example', 'c@x.example' ], [ $no, $no ], $mixed, '', 1, 1 ],
);

sub check_refusal
{
	my ($sink, $proxy, $listener, $i) = @_;
	my ($name, undef, $to, $replies, $want, $who, undef, $is_separate) = @{ $refusals[$i] };
	my $from = "s$i.$listener\@example.net";
	my $before = $sink->count;

	subtest "$listener: $name" => sub {
		$sink->script(rcpt => [ $listener eq 'early' ? map { $ok } @$to : (), @$replies, $ok ]);
		my $reply = give($proxy, $listener, $from, $to);
		like(substr($reply->raw, 0, 200), $want, 'the answer');
		is($sink->count, $before + ($who ne '' ? 1 : 0), $who ne '' ? 'delivered once' : 'not delivered');
		is(join(' ', map { /<([^>]*)>/ } @{ ($sink->messages)[-1]{rcpt_ok} }), $who, 'to whom') if $who ne '' && $sink->count > $before;
		my $c = $proxy->client($listener);
		$c->ehlo;
		is($c->mail($from), 250, 'the next MAIL');
		is($c->rcpt('c@x.example'), 250, 'its first recipient');
		is($c->rcpt('d@x.example'), $is_separate ? 452 : 250, $is_separate ? 'the others must come alone' : 'and another one');
		$c->quit;
	};
}

for my $caps (\@CAPS, caps_without('PIPELINING')) {
	my $with = grep({ $_ eq 'PIPELINING' } @$caps) ? 'with PIPELINING' : 'without PIPELINING';

	subtest "refused recipients $with" => sub {
		my $sink = SmtpSink->start(caps => $caps);
		my $proxy = start($sink, join '', map {
			my $i = $_;
			"address a$i { $refusals[$i][1] }\n" . join '', map { "rule { sender s$i.$_\@example.net; chain a$i }\n" } 'early', 'late' } 0 .. $#refusals);
		my $total = 0;

		for my $i (0 .. $#refusals) {
			check_refusal($sink, $proxy, $_, $i) for 'late', 'early';
			$total += 2 * $refusals[$i][6];
		}
		is(metric($proxy, 'postern_added_recipients_refused_total', backend => 'inner'), $total, 'each is counted');
		ok($proxy->wait_log(qr/^error w0 \S+ \S+ added_rcpt backend=inner to=<w\@example\.org> code=550 text="no such user"/m), 'and told');
	};
}

# ---- the early envelope ----------------------------------------------------------------------

subtest 'an early envelope that is not the one that leaves is given anew, over the same connection' => sub {
	my $sink = SmtpSink->start;
	my $proxy = start($sink, "address a { $redirect }\nrule { chain a }\n");

	is(give($proxy, 'early', 's@example.net', 'b@x.example'), 250, 'redirected');
	is(join(', ', map { s/ (?:SIZE|NOTIFY)=\S+//gr } grep { !/^EHLO/ } $sink->commands),
		'MAIL FROM:<s@example.net>, RCPT TO:<b@x.example>, RSET, MAIL FROM:<s@example.net>, RCPT TO:<r@example.org>, DATA',
		'what the back-end hears');
	is(give($proxy, 'early', 's@example.net', 'c@x.example'), 250, 'one that stays as it is');
	is(scalar(grep { /^RSET/ } $sink->commands), 1, 'is not given twice');
	is($sink->connections, 1, 'one connection');
};

subtest 'nor does it say less than what leaves' => sub {
	my $sink = SmtpSink->start;
	my $proxy = start($sink, "header tag { add X-Tag \"seen\" }\nheader less { remove Subject }\n"
		. "rule { sender /less/; chain less }\nrule { chain tag }\n");
	my $said = 'SIZE=' . length $content;
	my $larger = length($content) + length "X-Tag: seen\r\n";
	my $sizes = sub {
		my $from = () = $sink->commands;
		is(give($proxy, 'early', @_), 250, 'a message');
		my @heard = $sink->commands;
		return join ' ', map { /^MAIL.*>(.*)/ ? "MAIL$1" : $_ } grep { /^(?:MAIL|RSET|DATA)/ } @heard[ $from .. $#heard ];
	};

	is($sizes->('s@example.net', 'b@x.example', params => $said), "MAIL $said RSET MAIL SIZE=$larger DATA",
		'that a filter has made larger is given anew, with its size');
	is($sizes->('s@example.net', 'b@x.example', params => 'SIZE=1000'), 'MAIL SIZE=1000 DATA', 'unless there was room');
	is($sizes->('s@example.net', 'b@x.example'), 'MAIL DATA', 'or nothing was said');
	is($sizes->('less@example.net', 'b@x.example', params => 'SIZE=1'), 'MAIL SIZE=1 DATA', 'what a front has said wrong is its own');
};

# ---- parameters ------------------------------------------------------------------------------

my $eight = script('eight', 'printf "Subject: x\n\ncaf\351\n"');
my $seven = script('seven', 'printf "Subject: x\n\nplain\n"');
my $big = script('big', 'printf "Subject: x\n\n"; i=0; while [ $i -lt 3000 ]; do echo .23456789012345678901234567890123456789012345678; i=$((i+1)); done');
my $made = "exec eight { command $eight; pipe yes }\nexec seven { command $seven; pipe yes }\nexec big { command $big; pipe yes }\n"
    . "address watch { add_recipient w\@example.org }\naddress from { set_sender new\@example.org }\n"
    . "exec json { command @{[ script('json', 'echo \'{\"verdict\":\"pass\",\"sender\":\"newer@example.org\"}\'') ]}; output json }\n"
    . "rule { sender again\@example.net; chain from json }\n"
    . join '', map { "rule { sender $_\@example.net; chain $_ }\n" } 'eight', 'seven', 'big', 'watch', 'from';

# name, what the host lacks, sender (its filter), parameters of MAIL, those that the host gets, and of the last recipient
my @params = (
	[ 'a new size', [], 'eight', 'SIZE=5000', 'SIZE=20 BODY=8BITMIME', '' ],
	[ 'eight bits that were not declared', [], 'eight', undef, 'SIZE=20 BODY=8BITMIME', '' ],
	[ 'eight bits in place of seven', [], 'eight', 'BODY=7BIT', 'SIZE=20 BODY=8BITMIME', '' ],
	[ 'seven bits in place of eight', [], 'seven', 'BODY=8BITMIME', 'SIZE=21 BODY=8BITMIME', '' ],
	[ 'seven bits in place of seven', [], 'seven', 'BODY=7BIT', 'SIZE=21 BODY=7BIT', '' ],
	[ 'eight bits for a host without 8BITMIME', ['8BITMIME'], 'eight', undef, 'SIZE=20', '' ],
	[ 'a size for a host without SIZE', ['SIZE'], 'eight', undef, 'BODY=8BITMIME', '' ],
	[ 'no notice of a watcher', [], 'watch', 'RET=HDRS ENVID=e', 'SIZE=21 RET=HDRS ENVID=e', 'NOTIFY=NEVER' ],
	[ 'nor where there are none', ['DSN'], 'watch', undef, 'SIZE=21', '' ],
	[ 'a new sender has no wishes of the old one', [], 'from', 'BODY=8BITMIME RET=HDRS ENVID=e', 'SIZE=21 BODY=8BITMIME', '' ],
	[ 'nor has the one behind that', [], 'again', 'BODY=8BITMIME RET=HDRS ENVID=e', 'SIZE=21 BODY=8BITMIME', '' ],
	[ 'internationalized mail stays so', [], 'from', 'SMTPUTF8', 'SIZE=21 SMTPUTF8', '' ],
	[ 'and for a host without SMTPUTF8 nothing changes', ['SMTPUTF8'], 'from', undef, 'SIZE=21', '' ],
);

my %sinks;
for my $case (@params) {
	my ($name, $lacks, $from, $params, $want, $want_rcpt) = @$case;
	my $with = $sinks{"@$lacks"} //= do {
		my $sink = SmtpSink->start(caps => caps_without(@$lacks));
		my $proxy = start($sink, $made);

		$proxy->wait_log(qr/ state=up /);
		[ $sink, $proxy ];
	};
	my ($sink, $proxy) = @$with;

	for my $listener ('early', 'late') {
		subtest "$listener: $name" => sub {
			my $before = $sink->count;

			is(give($proxy, $listener, "$from\@example.net", 'b@x.example', params => $params), 250, 'taken');
			is($sink->count, $before + 1, 'delivered') or return;
			my $m = ($sink->messages)[-1];
			is($m->{mail} =~ s/^FROM:<[^>]*> ?//r, $want, 'parameters of MAIL');
			is($m->{rcpt_ok}[-1] =~ s/^TO:<[^>]*> ?//r, $want_rcpt, 'and of the last recipient');
		};
	}
}

# ---- new bodies ------------------------------------------------------------------------------

my $large = "Subject: x\r\n\r\n" . ".23456789012345678901234567890123456789012345678\r\n" x 3000;

for my $backend ('', 'chunking yes') {
	my $sink = SmtpSink->start;
	my $body = script('body', 'cat >"$1" <<END' . "\n.first\nlast\nEND");
	my $drop = script('drop', 'printf "Subject: other\n\nother\n"');
	my $same = script('same', 'sed "s/\\r$//"');
	my $proxy = start($sink, <<"FILTERS" . $made, $backend);
exec body { command $body %n }
exec drop { command $drop; pipe yes }
exec same { command $same; pipe yes }
header first { add X-First 1 }
header last { add X-Last 2 }
rule { sender body\@example.net; chain first body last }
rule { sender all\@example.net; chain first drop last body }
rule { sender drop\@example.net; chain drop }
rule { sender same\@example.net; chain same }
FILTERS

	subtest 'new bodies' . ($backend && ' by BDAT') => sub {
		for my $listener ('early', 'late') {
			my $got = sub { is(give($proxy, $listener, $_[0], 'b@x.example'), 250, $_[0]); return ($sink->messages)[-1]{content} };

			is($got->('body@example.net'), "Subject: x\r\nX-First: 1\r\nX-Last: 2\r\n\r\n.first\r\nlast\r\n",
				"$listener: a body between edits of the header");
			is($got->('all@example.net'), "Subject: other\r\nX-Last: 2\r\n\r\n.first\r\nlast\r\n", "$listener: a body in a message between edits");
			is($got->('big@example.net'), $large, "$listener: one that is in a file");
		}
		for my $from ('drop@example.net', 'same@example.net') {
			is(give($proxy, 'traced', $from, 'b@x.example'), 250, 'with our Received line');
			my $got = ($sink->messages)[-1]{content};

			like($got, qr/\AReceived: from client\.example/, "$from: it is on top");
			is(scalar(() = $got =~ /^Received:/mg), 1, "$from: and there once");
		}
		ok(is_spool_empty($proxy), 'nothing of them is left');
	};
}

subtest 'a new body into a maildir' => sub {
	my $proxy = TestProxy->start(<<"CONF");
workers 1
local_domains example.org
listener front { listen 127.0.0.1:0; backend inner; received no }
backend inner { maildir %d/md }
${made}address to { redirect r\@example.org; set_sender <> }
rule { sender both\@example.net; chain big to }
default_chain none
CONF

	is($proxy->client->send_message(from => 'both@example.net', content => $content), 250, 'taken');
	my ($file) = glob $proxy->dir . '/md/new/*';
	ok(read_file($file // '/dev/null') eq "Return-Path: <>\nDelivered-To: r\@example.org\n" . $large =~ s/\r//gr, 'with the new envelope');
};

# ---- what it costs ---------------------------------------------------------------------------

# Files of content that the engine has open.
sub content_files
{
	my ($proxy) = @_;
	my @pids = ($proxy->pid, $proxy->children);
	my $spool = $proxy->dir . '/spool';

	return scalar grep { (readlink // '') =~ m{^\Q$spool\E/} } map { glob "/proc/$_/fd/*" } @pids;
}

subtest 'an edit of the header of 50 MiB copies no body' => sub {
	my $sink = SmtpSink->start(data => { reply => '354 go', wait => 'go' });
	my $proxy = start($sink, "header h { subject_tag \"[x]\"; add X-A 1; remove X-B }\nheader i { add X-C 2 }\naddress a { $watch }\nrule { chain h i a }\n");
	my $body = "Subject: x\r\nX-B: 1\r\n\r\n" . ('0123456789' x 7 . "\r\n") x 700_000;
	my $c = $proxy->client('late');

	$c->ehlo;
	is($c->mail('s@example.net'), 250, 'MAIL');
	is($c->rcpt('b@x.example'), 250, 'RCPT');
	is($c->data, 354, 'DATA');
	$c->send($body . ".\r\n");
	ok($sink->wait_event(qr/line DATA/), 'the filters have ended');
	is(metric($proxy, 'postern_spool_bytes', where => 'file'), length $body, 'there is one body in the spool');
	cmp_ok(metric($proxy, 'postern_spool_bytes', where => 'memory'), '<', 1000, 'and none in memory');
	is(content_files($proxy), 1, 'in one file') if -d '/proc/self/fd';
	$sink->release('go');
	is($c->read_reply, 250, 'it is delivered');
	ok(($sink->messages)[-1]{content} eq $body =~ s/: x\r\nX-B: 1\r\n/: [x] x\r\nX-A: 1\r\nX-C: 2\r\n/r, 'with the edits');
	ok(is_spool_empty($proxy), 'and the spool is empty');
};

subtest 'a front that goes away leaves nothing of a new body' => sub {
	my $sink = SmtpSink->start(data => { reply => '354 go', wait => 'go' });
	my $slow = script('slow', "cat; touch $dir/half; exec sleep 600");
	my $proxy = start($sink, "exec slow { command $slow; pipe yes }\nexec same { command /bin/cat; pipe yes }\n"
		. "rule { sender slow\@example.net; chain same slow }\nrule { chain same }\n");
	my $big = "Subject: x\r\n\r\n" . "line\r\n" x 50_000;

	chmod 0777, $dir;
	for my $case ([ 'while the filter writes', 'slow@example.net', sub { wait_until { -e "$dir/half" } } ],
		[ 'while it is delivered', 's@example.net', sub { $sink->wait_event(qr/line DATA/) } ]) {
		my ($name, $from, $is_there) = @$case;
		my $c = $proxy->client('late');

		$c->ehlo;
		$c->mail($from);
		$c->rcpt('b@x.example');
		is($c->data, 354, 'DATA');
		$c->send("$big.\r\n");
		ok($is_there->(), $name);
		cmp_ok(metric($proxy, 'postern_spool_bytes', where => 'file'), '>', length $big, 'there is a new body');
		$c->reset;
		ok(is_spool_empty($proxy), 'it is gone');
	}
};

done_testing();
