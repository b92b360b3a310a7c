#!/usr/bin/perl
# The filter exec and programs that behave badly: each ends in a right answer, and nothing of them remains.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;
use Time::HiRes qw(time);

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};

my $sink = SmtpSink->start;
my $dir = temp_dir();
my $seen = "$dir/seen";
my $scripts = 0;
my $failed = qr/^451 4\.3\.0 message could not be checked/;

mkdir $seen;
chmod 0777, $seen or die "chmod: $!";

sub script
{
	my ($text, %opt) = @_;
	my $path = "$dir/s" . ++$scripts;

	write_file($path, ($opt{first} // '#!/bin/sh') . "\n$text\n", $opt{mode} // 0755);
	return $path;
}

# One filter per recipient r0, r1 ...
sub proxy
{
	my (@filters) = @_;
	my $blocks = join '', map { "exec f$_ { $filters[$_] }\nrule { recipient r$_\@example.org; chain f$_ }\n" } 0 .. $#filters;

	return TestProxy->start(<<"CONF");
workers 2
listener front { listen 127.0.0.1:0; backend inner; received no }
backend inner { hosts @{[ $sink->addr ]} }
default_chain none
$blocks
CONF
}

# Reply, and the seconds until it came.
sub sent
{
	my ($proxy, $i, %opt) = @_;
	my $begin = time;
	my $reply = $proxy->client->send_message(to => "r$i\@example.org", %opt);

	return ($reply, time - $begin);
}

# A client that has sent all of it and waits.
sub begun
{
	my ($proxy, $i) = @_;
	my $c = $proxy->client;

	$c->ehlo;
	$c->mail('a@example.net');
	$c->rcpt("r$i\@example.org");
	$c->data;
	$c->send("Subject: x\r\n\r\nx\r\n.\r\n");
	return $c;
}

sub child { my ($proxy, $what) = @_; return (grep { (read_file("/proc/$_/comm") // '') =~ /$what/ } $proxy->children)[0] }
sub open_fds { my ($pid) = @_; return scalar(() = glob "/proc/$pid/fd/*") }
sub programs { my ($proxy) = @_; return split ' ', `pgrep -P @{[ child($proxy, 'spawn') ]}` }
sub left { my ($proxy) = @_; return grep { -e } glob $proxy->dir . '/spool/programs.*/*' }
sub lines { my ($name) = @_; return split /\n/, read_file("$seen/$name") // '' }
sub is_running { my ($pid) = @_; return (read_file("/proc/$pid/stat") // '') =~ /\) [^Z]/ }

# Nothing runs, and no file is there.
sub is_quiet
{
	my ($proxy, $name) = @_;

	return ok((wait_until { !programs($proxy) }), "$name: no process remains")
	    & ok((wait_until { !left($proxy) }), "$name: no file remains");
}

subtest 'programs that do not want to end' => sub {
	my $deaf = script("trap '' TERM; echo \$\$ >>$seen/deaf; (trap '' TERM; echo \$\$ >/dev/null; exec sleep 1000) & echo \$! >>$seen/deaf; while :; do sleep 1000; done");
	my $slow = script("trap 'echo TERM >>$seen/term; exit 3' TERM; echo \$\$ >>$seen/slow; while :; do sleep 0.05; done");
	my $proxy = proxy("command $deaf %f; timeout 1s; grace 200ms", "command $slow %f; timeout 1s; grace 20s",
		"command $deaf %f; timeout 300ms; grace 0s; on_failure reject", "command @{[ script('kill -STOP $$') ]}; timeout 300ms; grace 100ms");
	my ($reply, $took) = sent($proxy, 0);

	like($reply->raw, $failed, 'one that ignores TERM is a failure');
	cmp_ok($took, '<', 15, 'in time');
	is_quiet($proxy, 'deaf');
	is(scalar(lines('deaf')), 2, 'it had a child');
	ok((wait_until { !grep { is_running($_) } lines('deaf') }), 'which is gone as well');

	($reply, $took) = sent($proxy, 1);
	like($reply->raw, $failed, 'one that hears TERM');
	ok((wait_until { lines('term') }), 'can tidy up');
	is_quiet($proxy, 'slow');

	is((sent($proxy, 2))[0], 554, 'without grace');
	is_quiet($proxy, 'without grace');
	like((sent($proxy, 3))[0]->raw, $failed, 'one that is stopped');
	is_quiet($proxy, 'stopped');
	ok($proxy->wait_log(qr/filter=f0 err="no answer within 1000 ms" on_failure=tempfail/), 'the log says that it was too late');
};

subtest 'a child that left the group holds the outputs open' => sub {
	my $proxy = proxy("command @{[ script(qq{setsid sleep 1000 & echo \$! >$seen/daemon; echo 550 5.7.1 no; exit 1}) ]} %f; reject_codes 1");
	my ($reply, $took) = sent($proxy, 0);

	is($reply->raw, "550 5.7.1 no\r\n", 'nobody waits for it');
	cmp_ok($took, '<', 5, 'the answer comes when the program has ended');
	my ($pid) = lines('daemon');
	kill 'KILL', $pid if $pid;
	is_quiet($proxy, 'daemon');
};

subtest 'floods' => sub {
	my $proxy = proxy(
		"command @{[ script('yes & yes >&2 & wait') ]}; max_output 1M; grace 100ms",
		"command @{[ script('yes >&2') ]} %f; max_output 1M; grace 100ms",
		"command @{[ script('yes | head -c 5000000; yes | head -c 5000000 >&2') ]}",
		"command @{[ script('cat; yes') ]}; pipe yes; max_output 1M; grace 100ms",
		"command @{[ script('yes >$1') ]} %n; file_size 1M",
		"command @{[ script('head -c 5000000 /dev/zero >$1') ]} %n; max_output 1M",
		"command @{[ script('head -c 5000000 /dev/zero >$1') ]} %h",
		"command @{[ script('while :; do printf x; printf y >&2; done') ]}; timeout 300ms; grace 0s");
	my @names = ('of both outputs', 'of errors', 'in bounds', 'through a pipe', 'into a file, with a limit', 'into a file', 'of header lines', 'slowly');

	for my $i (0 .. $#names) {
		my ($reply, $took) = sent($proxy, $i);

		like($reply->raw, $i == 2 ? qr/^250 / : $failed, $names[$i]);
		cmp_ok($took, '<', 8, '  in time');
	}
	is((sent($proxy, 2, to => 'other@example.org'))[0], 250, 'the worker serves others');
	is_quiet($proxy, 'flood');
	ok($proxy->wait_log(qr/filter=f0 err="its output is longer than 1048576 octets"/), 'the log says why');
};

subtest 'programs that cannot run' => sub {
	my $proxy = proxy("command $dir/none %f", "command @{[ script('exit 0', mode => 0644) ]} %f", "command $dir %f",
		"command @{[ script('exit 0', first => '#!/no/interpreter') ]} %f", "command @{[ script('exit 0', first => 'no program', mode => 0755) ]} %f",
		"command /bin/true; memory 1M", "command $dir/none; on_failure pass");
	my @names = ('not there', 'not executable', 'a folder', 'without an interpreter', 'no program', 'without memory');

	for my $i (0 .. $#names) {
		like((sent($proxy, $i))[0]->raw, $failed, $names[$i]);
	}
	is((sent($proxy, 6))[0], 250, 'on_failure pass');
	ok($proxy->wait_log(qr/filter=f0 err="not started: none: No such file or directory"/), 'the log says why');
	is_quiet($proxy, 'not started');
};

subtest 'each failure, and each on_failure' => sub {
	my %failures = ('not there' => "command $dir/none", 'too late' => "command @{[ script('sleep 1000') ]}; timeout 100ms; grace 0s",
		garbage => "command @{[ script('echo garbage') ]}; output json", 'a signal' => "command @{[ script('kill -KILL $$') ]}",
		'a code in no list' => "command @{[ script('exit 9') ]}");
	my %replies = (tempfail => qr/^451 4\.3\.0 /, reject => qr/^554 5\.3\.0 /, pass => qr/^250 /, disconnect => qr/^421 4\.3\.0 /, quarantine => qr/^250 /);
	my @cases = map { my $f = $_; map { [ $f, $_ ] } sort keys %replies } sort keys %failures;
	my @filters = map { "$failures{$_->[0]}; on_failure $_->[1]" } @cases;
	my $proxy = proxy(@filters, "command /bin/true }\nquarantine { directory %d/q");

	for my $i (0 .. $#cases) {
		my ($failure, $how) = @{ $cases[$i] };
		my $before = $sink->count;

		like((sent($proxy, $i))[0]->raw, $replies{$how}, "$failure: $how");
		is($sink->count - $before, $how eq 'pass' ? 1 : 0, $how eq 'pass' ? '  delivered' : '  not delivered');
	}
	is(scalar(grep { !m{/tmp$} } glob $proxy->dir . '/q/*'), scalar(keys %failures), 'what is quarantined is there');
	is_quiet($proxy, 'failures');
};

subtest 'a client that goes away' => sub {
	my $proxy = proxy("command @{[ script(qq{echo \$\$ >>$seen/gone; exec sleep 1000}) ]} %f; grace 5s");
	my $c = begun($proxy, 0);

	ok((wait_until { lines('gone') }), 'a program is at work');
	ok(scalar(left($proxy)), 'on a file');
	$c->reset;
	is_quiet($proxy, 'client');
	like($proxy->wait_summary->{filters}, qr/^f0:cancelled/, 'the summary line says so');
};

subtest 'clients that go away at any time' => sub {
	my $upper = script('tr a-z A-Z');
	my $proxy = proxy("command $upper; pipe yes }\nexec late { command @{[ script('sleep 0.1; cp $1 $2; echo A: b >$3') ]} %f %n %h; grace 200ms }\n"
		. "rule { recipient both\@example.org; chain f0 late }\nexec other { command /bin/true");
	my $large = "Subject: x\r\n\r\n" . ('x' x 70 . "\r\n") x 5_000;
	my $seed = $ENV{POSTERN_SEED} // time ^ $$;

	srand $seed;
	for (1 .. 30) {
		my $c = $proxy->client;

		$c->ehlo;
		$c->mail('a@example.net');
		$c->rcpt('both@example.org');
		$c->data;
		$c->send("$large.\r\n");
		select undef, undef, undef, rand 0.15;
		$c->reset;
	}
	is_quiet($proxy, 'clients') or diag("POSTERN_SEED=$seed");
	is($proxy->client->send_message(to => 'both@example.org', content => $large), 250, 'who stays is served');
	is_quiet($proxy, 'at last');
};

subtest 'a stop while a program is at work' => sub {
	my $proxy = proxy("command @{[ script(qq{trap '' TERM; echo \$\$ >>$seen/stop; while :; do sleep 1000; done}) ]} %f; timeout 300ms; grace 10m");
	my $c = begun($proxy, 0);

	like($c->read_reply->raw, $failed, 'it is too late, and has its grace');
	my ($pid) = lines('stop');
	$proxy->stop;
	ok((wait_until { !is_running($pid) }), 'with the end of postern it ends');
	is(join(' ', glob $proxy->dir . '/spool/programs.*'), '', 'and its folder is gone');
};

subtest 'a spool in which nothing can be made' => sub {
	my $proxy = proxy('command /bin/true %f', 'command /bin/true');

	chmod 0500, $proxy->dir . '/spool';
	like((sent($proxy, 0))[0]->raw, $failed, 'a program that needs a file fails');
	is((sent($proxy, 1))[0], 250, 'one that needs none does not');
	chmod 0700, $proxy->dir . '/spool';
	is((sent($proxy, 0))[0], 250, 'afterwards all is well');
};

subtest 'many at once' => sub {
	my $proxy = proxy("command @{[ script(qq{echo + >>$seen/many; sleep 0.05; echo - >>$seen/many}) ]} %f; max_instances 4; timeout 50s",
		"command @{[ script(qq{trap '' TERM; echo + >>$seen/stuck; sleep 0.5; echo - >>$seen/stuck; sleep 0.05}) ]} %f; max_instances 2; timeout 200ms; grace 5s");
	my @clients = map { begun($proxy, 0) } 1 .. 200;
	my ($now, $most) = (0, 0);

	is(scalar(grep { $_->read_reply == 250 } @clients), 200, '200 messages pass');
	for (lines('many')) {
		$now += /\+/ ? 1 : -1;
		$most = $now if $now > $most;
	}
	is(scalar(lines('many')), 400, 'each had its run');
	is($now, 0, 'of which all have ended');
	cmp_ok($most, '<=', 4, 'and of which there were never more than max_instances');
	cmp_ok($most, '>=', 2, 'but more than one');

	@clients = map { begun($proxy, 1) } 1 .. 6;
	$_->read_reply for @clients;
	ok((wait_until { !programs($proxy) }), 'those that are too late and do not end');
	($now, $most) = (0, 0);
	for (lines('stuck')) {
		$now += /\+/ ? 1 : -1;
		$most = $now if $now > $most;
	}
	cmp_ok($most, '<=', 2, 'are instances until they have ended');
	is_quiet($proxy, 'many');
};

# POSTERN_LONG=1 makes it ten thousand.
subtest 'nothing leaks' => sub {
	my $proxy = proxy('command /bin/true %f', 'command /bin/cat; pipe yes', 'command /bin/false %f %h %n', "command $dir/none %f");
	my $count = $ENV{POSTERN_LONG} ? 10_000 : 1_000;
	my @want = (250, 250, 451, 451);
	my ($engine, $spawner) = map { child($proxy, $_) } 'engine', 'spawn';
	my @clients = map { $proxy->client } 1 .. 8;
	my $round = sub {
		my ($n) = @_;
		my $wrong = 0;

		for my $i (0 .. $n - 1) {
			my $c = $clients[$i % @clients];
			my $reply = $c->send_message(to => "r@{[ $i % 4 ]}\@example.org", content => "Subject: x\r\n\r\nx\r\n");
			$wrong++ if $reply != $want[ $i % 4 ];
			$c->rset;
		}
		return $wrong;
	};
	my $size = sub { return (read_file("/proc/$engine/status") =~ /^VmRSS:\s+(\d+)/m)[0] };

	is($round->(100), 0, 'messages are judged');
	is_quiet($proxy, 'before');
	my @before = (open_fds($engine), open_fds($spawner));
	my $before = $size->();
	is($round->($count), 0, "$count of them");
	is_quiet($proxy, 'after');
	ok((wait_until { open_fds($engine) <= $before[0] }), 'the engine has no more descriptors than before') or diag(open_fds($engine), " $before[0]");
	ok((wait_until { open_fds($spawner) <= $before[1] }), 'nor has the spawner') or diag(open_fds($spawner), " $before[1]");
	SKIP: {
		skip 'sanitizers keep what was freed', 1 if (read_file("/proc/$engine/status") // '') =~ /^VmSize:\s+(\d+)/m && $1 > 1 << 30;
		cmp_ok($size->(), '<', $before + 8192, 'nor much more memory');
	}
};

done_testing;
