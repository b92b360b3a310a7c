#!/usr/bin/perl
# postern -1: one message from a shell through rules and filters, sent, printed or explained.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use SmtpSink;
use TestProxy;
use TestUtil;

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};

my $sink = SmtpSink->start;
my $home = temp_dir();	# the user must reach the program
my $program = TestProxy::program(bless { dir => $home }, 'TestProxy');
my $owner = is_root() ? (getpwnam 'nobody')[2] : $>;

# A folder with this configuration, in which "%d" is the folder.
sub folder
{
	my ($conf) = @_;
	my $dir = temp_dir();

	chmod 0755, $dir;
	mkdir "$dir/$_", 0700 for 'spool', 'q';
	chown $owner, -1, map { "$dir/$_" } 'spool', 'q';
	$conf = "user nobody\n$conf" if is_root();
	write_file("$dir/p", ($conf . "\nspool { directory %d/spool }\n") =~ s/%d/$dir/gr, 0644);
	return $dir;
}

# Runs it with this message; what it said on standard output, on standard error, and its status.
sub postern1
{
	my ($dir, $message, @args) = @_;

	write_file("$dir/message", $message);
	my $command = join ' ', map { "'" . s/'/'\\''/gr . "'" } $program, '-1', '-c', "$dir/p", @args;
	my $out = `$command <'$dir/message' 2>'$dir/stderr'`;
	my $status = $?;
	diag "it was killed: $status" if $status & 127;
	return map { s/\Q$dir\E/DIR/gr } $out, read_file("$dir/stderr"), $status >> 8;
}

my $back = "listener front { listen 127.0.0.1:10025; backend inner }\nbackend inner { hosts @{[ $sink->addr ]} }\n";
my $mail = "Subject: hi\n\n.dot\nbody\n";

# ---- sending ---------------------------------------------------------------------------------

subtest 'a message is sent' => sub {
	my $dir = folder($back . "header tag { add X-Tag \"seen\" }\ndummy slow { wait 10ms; helper yes }\ndefault_chain slow tag");
	my ($out, $err, $status) = postern1($dir, $mail, '-s', 'bob@example.net', 'ann@example.org', '<eve@example.org>');

	is("$out$err", '', 'without a word');
	is($status, 0, 'and status 0');
	my $txn = ($sink->messages)[-1];
	like($txn->{mail}, qr/^FROM:<bob\@example\.net> SIZE=\d+$/, 'from its sender');
	is(join(' ', @{ $txn->{rcpt_ok} }), 'TO:<ann@example.org> TO:<eve@example.org>', 'to its recipients');
	like($txn->{content}, qr/\AReceived: from localhost [^\r]*\r\n(?:\t[^\r]*\r\n)*Subject: hi\r\nX-Tag: seen\r\n\r\n\.dot\r\nbody\r\n\z/,
		'through the filters, with line ends of the wire');

	my $before = $sink->count;
	($out, $err, $status) = postern1($dir, "From ann\@example.org Sun Nov 29 03:00:00 2026\n$mail", 'b@example.org');
	is("$out$err$status", '0', 'without -s');
	like(($sink->messages)[-1]{mail}, qr/^FROM:<ann\@example\.org>/, 'the sender is that of the "From " line');
	unlike(($sink->messages)[-1]{content}, qr/^From /m, 'which is no part of the message');
	postern1($dir, "From MAILER-DAEMON Sun Nov 29 03:00:00 2026\n$mail", 'b@example.org');
	like(($sink->messages)[-1]{mail}, qr/^FROM:<>/, 'MAILER-DAEMON is nobody');
	postern1($dir, "From ann\@example.org x\n$mail", '-s', '', 'b@example.org');
	like(($sink->messages)[-1]{mail}, qr/^FROM:<>/, '-s says otherwise');
	is($sink->count, $before + 3, 'each is sent once');

	my $crlf = "Subject: x\r\n\r\na\r\n..\r\nb";
	postern1($dir, $crlf, '-s', 'a@example.net', 'b@example.org');
	like(($sink->messages)[-1]{content}, qr/\r\n\r\na\r\n\.\.\r\nb\r\n\z/, 'lines may end in CRLF, and the last one not at all');
	postern1($dir, "Subject: \xc3\xa4\n\n" . "0123456789\n" x 50_000, '-s', 'a@example.net', 'b@example.org');
	like(($sink->messages)[-1]{mail}, qr/ BODY=8BITMIME/, 'octets over 127 are declared');
	is(length(($sink->messages)[-1]{content} =~ s/\A.*?\r\n\r\n//sr), 600_000, 'a large one is whole');
	postern1($dir, $mail, '-s', 'a@example.net', "\xc3\xa4\@example.org");
	like(($sink->messages)[-1]{mail}, qr/ SMTPUTF8/, 'as are addresses that need it');
	is(join(' ', glob "$dir/spool/*"), '', 'nothing is left in the spool');
};

subtest 'recipients that get different filters' => sub {
	my $dir = folder($back . "always no { verdict reject; text \"not you\" }\nrule { recipient b\@example.org; chain no }\ndefault_chain none");
	my $before = $sink->count;
	my ($out, $err, $status) = postern1($dir, $mail, '-s', 's@example.net', 'a@example.org', 'b@example.org', 'c@example.org');

	is($sink->count, $before + 1, 'go in transactions of their own');
	is(join(' ', @{ ($sink->messages)[-1]{rcpt_ok} }), 'TO:<a@example.org> TO:<c@example.org>', 'those that pass are sent to');
	is($err, "postern: .: 550 5.7.1 not you\n", 'the refusal is told');
	is($status, 69, 'by the status, too: EX_UNAVAILABLE');
};

subtest 'the status says what became of it' => sub {
	my $refusing = SmtpSink->start(rcpt => '550 5.1.1 unknown');
	my $busy = SmtpSink->start(final => '451 4.3.0 later');
	my $conf = sub { return $back =~ s/hosts \S+/hosts $_[0]/r };
	my @cases = (
		[ 'an unknown recipient', folder($conf->($refusing->addr)), 67, "postern: RCPT TO:<b\@x.example>: 550 5.1.1 unknown\n" ],
		[ 'a back-end that puts it off', folder($conf->($busy->addr)), 75, "postern: .: 451 4.3.0 later\n" ],
		[ 'a back-end that is not there', folder($conf->('127.0.0.1:1')), 75, qr/^postern: MAIL FROM:<a\@x\.example> SIZE=\d+: 451 4\.4\.1 /m ],
		[ 'a filter that drops it', folder("$back always d { verdict discard }\ndefault_chain d"), 0, '' ],
		[ 'a filter that ends the session', folder("$back always d { verdict disconnect }\ndefault_chain d"), 75,
			"postern: .: 421 4.7.0 closing the connection\n" ],
		[ 'a filter that fails', folder("$back dummy d { wait 5s; timeout 20ms }\ndefault_chain d"), 75,
			qr/^postern: \.: 451 4\.3\.0 message could not be checked/m ],
	);

	for my $case (@cases) {
		my ($name, $dir, $want, $said) = @$case;
		my ($out, $err, $status) = postern1($dir, $mail, '-s', 'a@x.example', 'b@x.example');

		is($status, $want, $name);
		is($out, '', "$name: nothing on standard output");
		ref $said ? like($err, $said, "$name: is told") : is($err, $said, "$name: is told");
	}
	my $dir = folder("$back always q { verdict quarantine; text why }\ndefault_chain q\nquarantine { directory %d/q }");
	my (undef, $err, $status) = postern1($dir, $mail, '-s', 'a@x.example', 'b@x.example');
	is($status, 0, 'a filter that quarantines it');
	is(scalar(() = grep { !/tmp$/ } glob "$dir/q/*"), 1, 'it is there');
	($err, $status) = (postern1($dir, $mail, '-s', 'no address', 'b@x.example'))[1, 2];
	is($status, 65, 'an address that is none: EX_DATAERR');
	like($err, qr/^postern: MAIL FROM:<no address> SIZE=\d+: 50\d /, 'is told');
};

# ---- explaining ------------------------------------------------------------------------------

my $story = $back . <<'CONF';
quarantine { directory %d/q }
header tag { add X-Tag "seen"; remove X-Old; only_sender @b.example }
dummy slow { wait 30ms }
always night { verdict quarantine; text "at night"; only_time "* 3 * * sun" }
rule { recipient boss@x.example; chain slow tag }
default_chain night tag
CONF

subtest 'an explanation' => sub {
	my $dir = folder($story);
	my $line = is_root() ? 8 : 7;
	my $before = $sink->count;
	my ($out, $err, $status) = postern1($dir, "From a\@b.example x\nX-Old: 1\nSubject: hi\n\nbody\n", '--explain', '--time', 'Mon 12:00', 'boss@x.example', 'ann@x.example');

	is("$err$status", '0', 'is given');
	is($sink->count, $before, 'and nothing is sent');
	$out =~ s/\w{3} \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [-+]\d{4}/NOW/g;
	$out =~ s/after \d+ ms/after N ms/g;
	$out =~ s/looks at \d+ octets/looks at N octets/g;
	is($out, <<"END", 'in two transactions, as their chains differ');
listener front, client unix, helo localhost, NOW
message of 31 octets from <a\@b.example>
to <boss\@x.example>: rule DIR/p:$line:1, chain slow tag
filter slow (dummy)
  looks at N octets for <boss\@x.example>
  says pass, after N ms
filter tag (header)
  condition only_sender \@b.example
  looks at N octets for <boss\@x.example>
  says pass, after N ms
  - X-Old: 1
  + X-Tag: seen
verdict pass for <boss\@x.example>
  would go to back-end inner, from <a\@b.example> to <boss\@x.example>
reply of the back-end

listener front, client unix, helo localhost, NOW
message of 31 octets from <a\@b.example>
to <ann\@x.example>: no rule, default_chain DIR/p:@{[ $line + 1 ]}:1, chain night tag
filter night (always): skipped
  condition only_time "* 3 * * sun"
filter tag (header)
  condition only_sender \@b.example
  looks at N octets for <ann\@x.example>
  says pass, after N ms
  - X-Old: 1
  + X-Tag: seen
verdict pass for <ann\@x.example>
  would go to back-end inner, from <a\@b.example> to <ann\@x.example>
reply of the back-end
END
};

subtest 'at another time' => sub {
	my $dir = folder($story);
	my ($out, $err, $status) = postern1($dir, $mail, '--explain', '--time', 'Sun 03:59', '--helo', 'mx.example.net',
		'--client', '127.0.0.7', '-s', 'a@b.example', 'ann@x.example');

	is("$err$status", '0', 'is explained');
	like($out, qr/^listener front, client 127\.0\.0\.7, helo mx\.example\.net, Sun \d{4}-\d\d-\d\d 03:59:0\d /, 'as if it came then, and from there');
	like($out, qr/^filter night \(always\)\n  condition only_time "\* 3 \* \* sun"\n  looks at .*\n  says quarantine "at night", after \d+ ms$/m,
		'conditions go by it');
	like($out, qr/^verdict quarantine "at night" of night for <ann\@x\.example>\n  would be set aside in DIR\/q\nreply 250 2\.0\.0 Ok: queued as \S+$/m,
		'the verdict is what it would be');
	is(join(' ', glob "$dir/q/*"), '', 'but nothing is set aside');
	my $gated = folder($back =~ s/ \}/; gate night }/r . "always night { at connect mail rcpt; verdict pass; only_time \"* 3 * * sun\" }\ndefault_chain none");
	$out = (postern1($gated, $mail, '--explain', '--time', 'Sun 03:59', '-s', 'a@b.example', 'ann@x.example'))[0];
	is(join(' ', $out =~ /^filter night \(always\)\n.*\n  asked at (\w+).*\n  says pass/mg), 'connect mail rcpt', 'so do those of the gate');
	$out = (postern1($gated, $mail, '--explain', '--time', 'Sun 04:00', '-s', 'a@b.example', 'ann@x.example'))[0];
	is(join(' ', $out =~ /^filter night \(always\): (\w+)$/mg), 'skipped skipped skipped', 'which say no at another time');
	my $received = (postern1($dir, $mail, '--no-mail', '--time', '2001-01-01 00:00', '-s', 'a@b.example', 'x@x.example'))[0];
	unlike($received, qr/2001/, 'our Received line has the true time');
};

subtest 'what a filter finds wrong' => sub {
	my $dir = folder($back . "dummy bad { wait 5s; timeout 20ms; on_failure reject }\nalways new { verdict reject; text spam; shadow yes }\n"
		. "always pol { verdict reject; text \"no\"; on_reject discard; only_recipient d\@x.example }\n"
		. "rule { recipient d\@x.example; chain new pol }\nrule { recipient n\@x.example; chain none }\ndefault_chain bad");
	my ($out, $err, $status) = postern1($dir, $mail, '--explain', '-s', 'a@b.example', 'ann@x.example');

	like($out, qr/^filter bad \(dummy\)\n  looks at .*\n  failed: no answer within 20 ms\n  says reject 554 5\.3\.0 "message could not be checked", by its on_failure or the end of the budget, after \d+ ms\n/m,
		'a failure is told with its reason');
	like($out, qr/^reply 554 5\.3\.0 message could not be checked$/m, 'the reply');
	is($status, 69, 'and the status is that of a refusal');
	($out, $err, $status) = postern1($dir, $mail, '--explain', '-s', 'a@b.example', 'd@x.example');
	like($out, qr/^filter new .*\n.*\n  says pass, being a shadow; else it would be reject, after/m, 'a shadow');
	like($out, qr/^filter pol .*\n  condition only_recipient d\@x\.example\n.*\n  says discard, which on_reject has made of its reject, after/m, 'what on_reject makes');
	like($out, qr/^reply 250 2\.0\.0 Ok: discarded$/m, 'and the reply');
	($out) = postern1($dir, $mail, '--explain', '-s', 'a@b.example', 'n@x.example');
	like($out, qr/^to <n\@x\.example>: rule DIR\/p:\d+:1, chain none\nverdict pass/m, 'no filter');
	($out, $err, $status) = postern1($dir, "Received: x\n" x 60 . $mail, '--explain', '-s', 'a@b.example', 'n@x.example');
	like($out, qr/^reply 554 5\.4\.6 mail loop: 60 Received lines/m, 'what is refused before the filters');
	is($status, 69, 'is a refusal, too');
};

subtest 'edits of every kind' => sub {
	my $dir = folder($back . <<'CONF');
header tag { change Subject "other"; subject_tag "[x]" }
address move { redirect new@x.example; set_sender list@x.example; external yes }
exec body { command /bin/sh -c "echo replaced >$1" sh %n }
default_chain tag move body
CONF
	my ($out, $err, $status) = postern1($dir, "A: 1\nSubject: hi\nB: 2\n\nbody\n", '--explain', '-s', 'a@b.example', 'ann@x.example');

	is("$err$status", '0', 'are explained');
	like($out, qr/^  - Subject: hi\n  \+ Subject: .*other\n(?!  [-+])/m, 'a field that changes is a line less and a line more');
	like($out, qr/^  - sender <a\@b\.example>\n  \+ sender <list\@x\.example>\n  - recipient <ann\@x\.example>\n  \+ recipient <new\@x\.example>$/m,
		'another envelope');
	like($out, qr/^  another body: the message has \d+ octets now, and had \d+$/m, 'another body');
	like($out, qr/^  would go to back-end inner, from <list\@x\.example> to <new\@x\.example>$/m, 'and whom it would reach');
};

subtest 'filters of the gate' => sub {
	my $dir = folder($back =~ s/backend inner \}/backend inner; gate hello refuse aside }/r . <<'CONF');
dummy hello { at helo }
always refuse { at rcpt; verdict reject; status 5.1.1; text "not here"; only_recipient no@x.example }
always aside { at mail; verdict quarantine; text "by sender"; only_sender s@x.example }
quarantine { directory %d/q }
CONF
	my ($out, $err, $status) = postern1($dir, $mail, '--explain', '-s', 'a@b.example', 'no@x.example', 'yes@x.example');

	like($out, qr/^filter hello \(dummy\)\n  asked at helo\n  says pass, after/, 'are told, too, when they are asked');
	like($out, qr/^filter refuse \(always\)\n  condition only_recipient no\@x\.example\n  asked at rcpt\n  says reject 5\.1\.1 "not here", after/m, 'and what they say');
	like($out, qr/^RCPT TO:<no\@x\.example>: 550 5\.1\.1 not here$/m, 'with the reply');
	like($out, qr/^verdict pass for <yes\@x\.example>$/m, 'the others go on');
	is($status, 67, 'the status is that of an unknown recipient');
	($out, $err, $status) = postern1($dir, $mail, '--explain', '-s', 's@x.example', 'yes@x.example');
	like($out, qr/^verdict quarantine "by sender" of aside for <yes\@x\.example>$/m, 'a quarantine of the gate holds at the end');
	is($status, 0, 'and is no refusal');
	postern1($dir, $mail, '-s', 's@x.example', 'yes@x.example');
	is(scalar(() = grep { !/tmp$/ } glob "$dir/q/*"), 1, 'without --explain it is set aside');
};

subtest 'the message that would be sent' => sub {
	my $dir = folder($story);
	my $before = $sink->count;
	my ($out, $err, $status) = postern1($dir, $mail, '--no-mail', '-s', 'a@b.example', 'boss@x.example');

	is("$err$status", '0', 'is printed');
	like($out, qr/\AReceived: [^\r]*\r\n(?:\t[^\r]*\r\n)*Subject: hi\r\nX-Tag: seen\r\n\r\n\.dot\r\nbody\r\n\z/, 'as it would leave');
	is($sink->count, $before, 'and not sent');
	($out, $err, $status) = postern1($dir, $mail, '--no-mail', '--explain', '-s', 'a@b.example', 'boss@x.example');
	like($out, qr/\AReceived: .*body\r\n\z/s, 'with --explain the message alone is on standard output');
	like($err, qr/^listener front.*reply of the back-end\n\z/s, 'and the story on standard error');
	($out, $err, $status) = postern1($dir, $mail, '--no-mail', '--time', 'sun 03:00', '-s', 'a@b.example', 'ann@x.example');
	is("$out$err$status", '0', 'of one that is set aside there is none');
};

# ---- what it leaves alone --------------------------------------------------------------------

subtest 'a daemon that runs is not disturbed' => sub {
	my $proxy = TestProxy->start($back =~ s/10025/0/r . "header tag { add X-Tag \"seen\" }\ndefault_chain tag\npid_file %d/pid\n"
		. "health { listen 127.0.0.1:0 }\n");
	my $dir = $proxy->dir;
	my $before = $sink->count;
	my $log = $proxy->log;
	my $pid = read_file("$dir/pid");

	write_file("$dir/message", $mail);
	my $out = `'@{[ $proxy->program ]}' -1 -c '@{[ $proxy->conf_file ]}' -s a\@b.example c\@d.example <'$dir/message' 2>&1`;
	is("$out$?", '0', 'beside it a message is sent');
	is($sink->count, $before + 1, 'once');
	is($proxy->log, $log, 'without a word in its log');
	is(read_file("$dir/pid"), $pid, 'its pid file is as it was');
	is($proxy->client->send_message, 250, 'and it goes on');
};

SKIP: {
	skip 'needs root, to be another user', 1 unless is_root();
	subtest 'another user than the daemon\'s' => sub {
		my $dir = folder($back . "exec copy { command /bin/cp %f %n; new message }\ndefault_chain copy");
		my $before = $sink->count;
		my $large = "Subject: large\n\n" . "0123456789\n" x 20_000;

		write_file("$dir/message", $large, 0644);
		mkdir "$dir/tmp", 0777;
		chmod 0777, "$dir/tmp";
		my $out = `TMPDIR='$dir/tmp' setpriv --reuid daemon --clear-groups '$program' -1 -c '$dir/p' -s a\@b.example c\@d.example <'$dir/message' 2>&1`;
		is("$out$?", '0', 'who may not write the spool sends all the same');
		is($sink->count, $before + 1, 'once');
		is(join(' ', glob "$dir/tmp/*"), '', 'and leaves nothing');
	};
}

# ---- wrong uses ------------------------------------------------------------------------------

subtest 'wrong uses' => sub {
	my $dir = folder($back);
	my $usage = qr/\nusage: postern -1 /;
	my @cases = (
		[ [], 64, qr/^postern: there is no recipient$usage/ ],
		[ [ 'b@x.example' ], 64, qr/^postern: there is no sender: give -s SENDER .*From ADDRESS/ ],
		[ [ '-s' ], 64, qr/^postern: -s needs something behind it$usage/ ],
		[ [ '-x', 'b@x.example' ], 64, qr/^postern: there is no switch -x here$usage/ ],
		[ [ '--explai', '--mail', 'b@x.example' ], 64, qr/^postern: there is no switch --mail here$usage/ ],
		[ [ '-l', 'inside', '-s', 'a@x.example', 'b@x.example' ], 64, qr/^postern: there is no listener "inside" \(there are: front\)$/m ],
		[ [ '--time', 'yesterday', '-s', 'a@x.example', 'b@x.example' ], 64,
			qr/^postern: --time: "yesterday" is no time \(try "Sun 03:00", 03:00 or "2026-11-29 03:00"\)$usage/ ],
		[ [ '--time', '2026-02-30 03:00', '-s', '', 'b@x.example' ], 64, qr/^postern: --time: there is no such day as in "2026-02-30 03:00"$usage/ ],
		[ [ '--client', '10.0.0.0/8', '-s', '', 'b@x.example' ], 64, qr/^postern: --client: "10\.0\.0\.0\/8" is no address/ ],
		[ [ '--client', '192.0.2.1', '-s', '', 'b@x.example' ], 69, qr/^postern: the greeting: 554 5\.7\.1 you may not speak to this server$/m ],
		[ [ '-s', '', "b\@x.example\nRCPT TO:<c\@x.example>" ], 64, qr/^postern: an address has a line end in it$usage/ ],
	);
	my $before = $sink->count;

	for my $case (@cases) {
		my ($args, $want, $said) = @$case;
		my ($out, $err, $status) = postern1($dir, $mail, @$args);
		my $name = join(' ', @$args) =~ s/\n.*//sr;

		like($err, $said, "-1 $name: is told");
		is("$out$status", $want, "-1 $name: by its status, too");
	}
	is($sink->count, $before, 'nothing was sent');
	write_file("$dir/p", 'nonsense');
	my ($out, $err, $status) = postern1($dir, $mail, '-s', '', 'b@x.example');
	like($err, qr/^DIR\/p:1:1: unknown option "nonsense"/, 'a wrong configuration is told');
	is($status, 78, 'as -t does');
	unlink "$dir/p";
	($out, $err, $status) = postern1($dir, $mail, '-s', '', 'b@x.example');
	is($status, 78, 'one that is not there, too');
	like($err, qr/DIR\/p: .*No such file/, 'with its name');
};

done_testing;
