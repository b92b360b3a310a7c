#!/usr/bin/perl
# Verdict quarantine: the message is set aside, whole, synced and with its reason, before the client hears a 250.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use JSON::PP ();
use POSIX ();
use Test::More;
use HttpClient;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};

my $sink = SmtpSink->start;
my $id = qr/\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{8}/;

sub conf
{
	my ($filters, $directory) = @_;

	return "workers 2\nlistener front { listen 127.0.0.1:0; backend inner }\nbackend inner { hosts @{[ $sink->addr ]} }\n"
		. 'quarantine { directory ' . ($directory // '%d/q') . " }\n$filters\n";
}

my $always = "always block { verdict quarantine; text \"looks like \\\"Eicar\\\"\" }\ndefault_chain block";

# What is in the quarantine and not in its tmp; and there.
sub entries { my ($dir) = @_; return map { m{([^/]+)$} } grep { !m{/tmp$} } sort glob "$dir/*" }
sub unfinished { my ($dir) = @_; return join ' ', glob "$dir/tmp/*" }

sub metadata { my ($dir, $entry) = @_; return JSON::PP->new->utf8->decode(read_file("$dir/$entry/metadata.json")) }

# ---- what is written -------------------------------------------------------------------------

subtest 'a message that a filter quarantines' => sub {
	my $proxy = TestProxy->start(conf("header tag { add X-Tag \"seen\" }\n" . $always =~ s/chain/chain tag/r)
		. "health { listen 127.0.0.1:0 }\n");
	my $dir = $proxy->dir . '/q';
	my $before = $sink->count;
	my $c;

	# What the back-end takes is known soon, but not always at the first EHLO.
	wait_until { $c = $proxy->client; $c->ehlo; $c->has('DSN') };
	my $reply = $c->send_message(from => 'bob@example.net', to => [ 'ann@example.org', '"a b"@example.org' ],
		content => "Subject: x\r\nMessage-ID: <1\@example.net>\r\n\r\n.dot\r\n");
	like($reply->raw, qr/^250 2\.0\.0 Ok: queued as [0-9a-f]{6}-1\r\n\z/, 'is answered as any that was taken');
	is($sink->count, $before, 'and goes nowhere');
	my @entries = entries($dir);
	is(scalar @entries, 1, 'there is one entry');
	like($entries[0], qr/^$id$/, 'by an id that sorts by time');
	is(unfinished($dir), '', 'and nothing is unfinished');
	is((stat $dir)[2] & 07777, 0700, 'the folder was made, for the user alone');
	is((stat "$dir/$entries[0]")[2] & 07777, 0700, 'as is the entry');
	is((stat "$dir/$entries[0]/$_")[2] & 07777, 0600, "and $_ in it") for 'message', 'metadata.json';
	like(read_file("$dir/$entries[0]/message"),
		qr/\AReceived: [^\r]*\r\n(?:\t[^\r]*\r\n)*Subject: x\r\nMessage-ID: <1\@example\.net>\r\nX-Tag: seen\r\n\r\n\.dot\r\n\z/,
		'the message is as the filters made it');
	my $m = metadata($dir, $entries[0]);
	is($m->{version}, 1, 'the metadata say their version');
	is($m->{id}, $entries[0], 'the id');
	like($m->{time}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/, 'the time');
	is("$m->{verdict} $m->{filter} $m->{reason}", 'quarantine block looks like "Eicar"', 'verdict, filter and reason');
	like("$m->{listener} $m->{client} $m->{helo} $m->{protocol}", qr/^front 127\.0\.0\.1:\d+ client\.example ESMTP$/, 'the client');
	is($m->{sender}{address}, 'bob@example.net', 'the sender');
	is(join(' ', map { $_->{address} } @{ $m->{recipients} }), 'ann@example.org "a b"@example.org', 'the recipients');
	is($m->{size}, -s "$dir/$entries[0]/message", 'the size');
	is($m->{msgid}, '<1@example.net>', 'the Message-ID');
	ok(!exists $m->{tls}, 'and nothing that was not');
	my $line = $proxy->wait_summary(1);
	is("$line->{verdict} $line->{code} $line->{quarantine}", "quarantine 250 $entries[0]", 'the summary line has the id');
	ok($proxy->wait_log(qr/ t=1 quarantine id=\Q$entries[0]\E filter=block reason="looks like \\"Eicar\\"" rcpts=2 to=<ann\@example\.org>$/m),
		'a line of the log says why');
	is("$line->{s}-1", $m->{session}, 'log and entry know each other') if exists $line->{s};
	is($reply->text, "2.0.0 Ok: queued as $m->{session}", 'and the reply is what they have in common');

	my $large = "Subject: large\r\n\r\n" . ('.' . 'x' x 70 . "\r\n") x 20000;
	is($c->mail('', 'BODY=8BITMIME', 'RET=HDRS', 'ENVID=e+2Bf'), 250, 'another one, with parameters');
	is($c->rcpt('ann@example.org', 'NOTIFY=NEVER', 'ORCPT=rfc822;a@example.org'), 250, 'for one recipient');
	is($c->data, 354, 'and large');
	$c->send($large =~ s/^\./../mgr . ".\r\n");
	is($c->read_reply, 250, 'is taken');
	my $second = (entries($dir))[1];
	cmp_ok($second, 'gt', $entries[0], 'its id comes later');
	like(read_file("$dir/$second/message"), qr/\r\nX-Tag: seen\r\n\r\n\Q@{[ $large =~ s{.*?\r\n\r\n}{}sr ]}\E\z/, 'it is whole');
	$m = metadata($dir, $second);
	is(JSON::PP->new->canonical->encode($m->{sender}), '{"address":"","body":"8BITMIME","envid":"e+2Bf","ret":"HDRS"}',
		'the sender has its parameters');
	is(JSON::PP->new->canonical->encode($m->{recipients}),
		'[{"address":"ann@example.org","notify":"NEVER","orcpt":"rfc822;a@example.org"}]', 'and the recipient');
	my $page = HttpClient::get($proxy->health_addr, "/metrics")->{body};
	like($page, qr/^postern_quarantined_total\{listener="front"\} 2$/m, 'both are counted');
	like($page, qr/^postern_transactions_total\{listener="front",verdict="quarantine"\} 2$/m, 'by their verdict, too');
	like(HttpClient::get($proxy->health_addr, "/status")->{body}, qr/"quarantine": \{\s*"directory": "\Q$dir\E"/,
		'/status knows the folder');
};

subtest 'a filter that fails, with on_failure quarantine' => sub {
	my $proxy = TestProxy->start(conf("dummy slow { wait 10s; timeout 50ms; on_failure quarantine }\ndefault_chain slow"));
	my $before = $sink->count;

	is($proxy->client->send_message, 250, 'is no reason for the front to wait');
	is($sink->count, $before, 'nor to pass the message');
	my ($entry) = entries($proxy->dir . '/q');
	my $m = metadata($proxy->dir . '/q', $entry);
	is("$m->{filter}: $m->{reason}", 'slow: message could not be checked', 'it is in the quarantine');
	is($proxy->wait_summary->{quarantine}, $entry, 'and the log says so');
};

# ---- what goes wrong -------------------------------------------------------------------------

sub is_put_off
{
	my ($proxy, $n, $why) = @_;
	my $reply = $proxy->client->send_message(content => "\r\n" . "0123456789\r\n" x 200_000);

	is($reply->raw, "451 4.3.0 the message could not be stored, try again later\r\n", 'is a 451, and says no more');
	my $line = $proxy->wait_summary($n);
	is($line->{verdict}, 'tempfail', 'for the log, too');
	is($line->{quarantine}, undef, 'there is no id');
	return unless $why; # it is told at once, and then once a minute
	ok($proxy->wait_log(qr/^error w\d s=\S+ t=1 quarantine err="quarantine [^"]*\Q$why\E"/m), 'the log says why');
}

subtest 'a folder that cannot be written' => sub {
	my $proxy = TestProxy->start(conf($always));
	my $dir = $proxy->dir . '/q';

	is($proxy->client->send_message, 250, 'at first it can');
	rename $dir, "$dir.was";
	is_put_off($proxy, 2, 'cannot open it: No such file or directory');
	rename "$dir.was", $dir;
	chmod 0500, "$dir/tmp";
	is_put_off($proxy, 3);
	chmod 0700, "$dir/tmp";
	is($proxy->client->send_message, 250, 'when it can be written again, so it is');
	is(scalar(() = entries($dir)), 2, 'what was put off is not there');
	is(unfinished($dir), '', 'nor anything of it');
};

subtest 'a full disk' => sub {
	plan skip_all => 'needs root, to mount a small file system' unless is_root();
	my $dir = temp_dir();
	system('mount', '-t', 'tmpfs', '-o', 'size=1m,mode=0777', 'postern-test', $dir) == 0
	    or plan skip_all => 'mount is not allowed here';
	my $proxy = TestProxy->start(conf($always, "$dir/q"));

	is($proxy->client->send_message, 250, 'has room for a small message');
	is_put_off($proxy, 2, 'cannot write the message: No space left on device');
	is(scalar(() = entries("$dir/q")), 1, 'nothing of the large one is there');
	is(unfinished("$dir/q"), '', 'nor left behind');
	is($proxy->client->send_message, 250, 'small ones go on');
	$proxy->stop;
	system 'umount', '-l', $dir;
};

subtest 'what a crash has left unfinished' => sub {
	my $proxy = TestProxy->start(conf($always));
	my $dir = $proxy->dir . '/q';

	is($proxy->client->send_message, 250, 'one message is there');
	my ($entry) = entries($dir);
	$proxy->stop;
	mkdir "$dir/tmp/20260101T000000.000000Z-00000000", 0700;
	write_file("$dir/tmp/20260101T000000.000000Z-00000000/message", 'half');
	chown((getpwnam 'nobody')[2, 3], glob "$dir/tmp/*") if is_root();
	$proxy->restart;
	is(unfinished($dir), '', 'goes at the next start');
	ok($proxy->wait_log(qr/^info a quarantine removed=1$/m), 'and the log says so');
	is(join(' ', entries($dir)), $entry, 'what was finished stays');
};

# ---- never half, never lost ------------------------------------------------------------------

# In a process of its own: sends until it may not; writes down what was answered with 250.
sub start_load
{
	my ($proxy, $name) = @_;
	my $file = $proxy->dir . "/acked.$name";
	my $pid = fork // die "fork: $!";

	return $pid if $pid > 0;
	open my $acked, '>>', $file or POSIX::_exit(1);
	$acked->autoflush(1);
	for my $n (1 .. 100_000) {
		my $ok = eval {
			$proxy->client->send_message(content => "Subject: m-$name-$n-end\r\n\r\n" . "$n\r\n" x 3000) == 250;
		};
		last unless defined $ok;
		print $acked "m-$name-$n-end\n" if $ok;
	}
	POSIX::_exit(0);
}

subtest 'killed in the middle of it' => sub {
	my $proxy = TestProxy->start(conf($always));
	my $dir = $proxy->dir . '/q';
	my %seen;

	for my $round (1 .. 3) {
		my $count = () = entries($dir);
		my @load = map { start_load($proxy, "$round.$_") } 1 .. 4;
		wait_until { (() = entries($dir)) >= $count + 10 } 20;
		$proxy->kill_all;
		waitpid $_, 0 for @load;
		$proxy->restart;
	}
	is(unfinished($dir), '', 'nothing unfinished is left');
	my $whole = 0;
	my @entries = entries($dir);
	for my $entry (@entries) {
		my $m = eval { metadata($dir, $entry) } // { size => -1 };
		my $text = read_file("$dir/$entry/message") // '';
		$whole++ if $m->{size} == length $text;
		$seen{$1}++ if $text =~ /^Subject: (m-\S+-end)\r$/m;
	}
	is($whole, scalar @entries, 'every entry is whole');
	my @acked = map { split /\n/, read_file($_) } glob $proxy->dir . '/acked.*';
	cmp_ok(scalar @acked, '>', 10, 'there were enough of them');
	is(join(' ', grep { !$seen{$_} } @acked), '', 'and every message that was answered with 250 is there');
};

subtest 'a front that goes away meanwhile' => sub {
	my $proxy = TestProxy->start(conf($always));
	my $dir = $proxy->dir . '/q';
	my $n = 40;

	for (1 .. $n) {
		my $c = $proxy->client;
		$c->ehlo;
		$c->mail('a@example.net');
		$c->rcpt('b@example.org');
		$c->data;
		$c->send("\r\n" . "0123456789\r\n" x 20_000 . ".\r\n");
		$_ % 2 ? $c->reset : select undef, undef, undef, rand 0.01;
	}
	$proxy->wait_summary($n, 20);
	my @kept = grep { defined $_->{quarantine} } $proxy->summaries;
	ok(wait_until { (() = entries($dir)) == @kept && unfinished($dir) eq '' }, 'finds in the quarantine what was answered for, and no more')
		or diag join "\n", scalar @kept, entries($dir), unfinished($dir);
	is(join(' ', sort map { $_->{quarantine} } @kept), join(' ', entries($dir)), 'by their ids');
	is($proxy->stop, 0, 'the end is orderly');
};

# ---- what is told when the configuration is read ---------------------------------------------

my $home = temp_dir();

sub said
{
	my ($conf) = @_;
	my $file = "$home/p";

	write_file($file, "listener front { listen 127.0.0.1:10025; backend inner }\nbackend inner { discard yes }\n$conf\n");
	my $program = ($ENV{POSTERN} // builddir() . '/postern');
	my $out = `'$program' -T -c '$file' 2>&1 >/dev/null </dev/null`;
	return $out =~ s/^\Q$file\E://mgr;
}

my $none = 'there is no quarantine (try quarantine { directory /var/lib/postern/quarantine })';
my @wrong = (
	[ "dummy a { on_failure quarantine }\ndefault_chain a", "3:11: on_failure: $none" ],
	[ "always a { verdict quarantine }\ndefault_chain a", "3:12: verdict: $none" ],
	[ "dummy a { on_reject quarantine }\ndefault_chain a", "3:11: on_reject: $none" ],
	[ "exec a { command /bin/true; quarantine_codes 3 }\ndefault_chain a", "3:29: quarantine_codes: $none" ],
	[ "always a { verdict quarantine }\nquarantine { }", "3:12: verdict: $none" ],
	[ 'quarantine { directory q }', '3:14: directory: "q" is not an absolute path' ],
	[ 'quarantine { directory /var/spool/postern }',
		'3:14: directory: /var/spool/postern is the spool (try /var/lib/postern/quarantine)' ],
	[ "quarantine { directory /q }\nalways a { verdict quarantine; code 250 }", '4:37: code: 250 is out of range (400 to 599)' ],
	[ "quarantine { directory /q }\nalways a { verdict quarantine; status 2.0.0 }", '4:1: always a: verdict quarantine has no '
		. 'reply of its own: code, status and text are for reject, tempfail and disconnect' ],
);
is(said($_->[0]), "$_->[1]\n", "told: $_->[0]" =~ s/\n/; /gr) for @wrong;
is(said("quarantine { directory /q }\nalways a { verdict quarantine; text why }\ndefault_chain a"), '', 'a good one');

subtest 'a reload that takes the quarantine away' => sub {
	my $proxy = TestProxy->start(conf($always));

	is($proxy->reload(conf($always) =~ s/^quarantine.*$//mr), 'kept', 'is refused while somebody asks for it');
	is($proxy->client->send_message, 250, 'and all goes on');
	mkdir $proxy->dir . '/open', 0755;
	is($proxy->reload(conf($always, '%d/open')), 'kept', 'as is one to a folder that others can read');
	is($proxy->reload(conf($always, '%d/other')), 'done', 'it may move');
	is($proxy->client->send_message, 250, 'and is written');
	is(scalar(() = entries($proxy->dir . "/$_")), 1, "one in $_") for 'q', 'other';
};

done_testing;
