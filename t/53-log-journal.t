#!/usr/bin/perl
# A real systemd-journald takes our lines: text as the message, and each key as a field. It runs in a
# /run of its own, together with the postern that logs to it.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use JSON::PP ();
use LogEvents;
use Test::More;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

my ($journald) = grep { -x } '/lib/systemd/systemd-journald', '/usr/lib/systemd/systemd-journald';
plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR};
plan skip_all => 'needs root, for a /run of its own' unless is_root();
plan skip_all => 'needs systemd-journald' unless $journald && -x '/usr/bin/journalctl' && -s '/etc/machine-id';
plan skip_all => 'a mount namespace is not possible here' if system 'unshare -m true 2>/dev/null';

my $sink = SmtpSink->start;
my $dir = temp_dir();
my $addr = '127.0.0.1:' . free_port();
my %pids;	# a test that dies leaves none behind
END { local $?; kill 'KILL', values %pids }

sub pid_of { my ($name) = @_; return ((read_file("$dir/$name.pid") // '') =~ /^(\d+)/)[0] }

mkdir "$dir/$_" for qw(run journal p);
chown((getpwnam 'nobody')[2, 3], "$dir/p");
write_file("$dir/journald.conf", "[Journal]\nStorage=volatile\nAudit=no\nReadKMsg=no\nRateLimitIntervalSec=0\nForwardToWall=no\n", 0644);
write_file("$dir/conf", <<"CONF", 0644);
user nobody
pid_file $dir/postern.pid
workers 1
spool { directory $dir/p/spool }
log { to journal; facility local3; level debug; format json }
listener front { listen $addr; backend inner }
backend inner { hosts @{[ $sink->addr ]} }
CONF
my $program = (bless { dir => "$dir", owner => $$, finished => 1, conf => '' }, 'TestProxy')->program;
write_file("$dir/sh", <<"SH", 0755);
set -e
mount -t tmpfs none /run
mkdir -p /run/systemd/journal /run/log/journal
mount --bind $dir/journal /run/log/journal
[ ! -e /etc/systemd/journald.conf ] || mount --bind $dir/journald.conf /etc/systemd/journald.conf
$journald >$dir/journald.out 2>&1 &
echo \$! >$dir/journald.pid
i=0
while [ ! -S /run/systemd/journal/socket ] && [ \$i -lt 200 ]; do sleep 0.05; i=\$((i + 1)); done
exec $program -c $dir/conf
SH
my $out = `unshare -m sh $dir/sh 2>&1 </dev/null`;
my $status = $?;
$pids{journald} = pid_of('journald') if pid_of('journald');
$pids{postern} = pid_of('postern') if pid_of('postern');
is($status, 0, 'postern starts') or diag $out, read_file("$dir/journald.out");

# What the journal has of postern, as journalctl gives it.
sub entries
{
	my (@match) = @_;
	my $lines = `journalctl --directory=$dir/journal -o json --all SYSLOG_IDENTIFIER=postern @match 2>/dev/null`;

	return map { JSON::PP->new->utf8->decode($_) } split /\n/, $lines;
}

sub first_entry
{
	my (@match) = @_;

	return (wait_until { my ($entry) = entries(@match); $entry }) // {};
}

# Values that are no UTF-8 are lists of octets there.
sub octets { my ($value) = @_; return ref $value ? join '', map { chr } @$value : $value }

my $c = SmtpClient->connect($addr);
$c->ehlo;
is($c->send_message(from => 'a@example.net', content => "Message-ID: <1\@x> \"q\"\r\n\r\nx\r\n"), 250, 'a message passes');
my $entry = first_entry('POSTERN_EVENT=msg');
is($entry->{PRIORITY}, 6, 'info is priority 6');
is($entry->{SYSLOG_FACILITY}, 19, 'the facility is ours');
is($entry->{_TRANSPORT}, 'journal', 'it came by the native protocol');
like($entry->{MESSAGE}, qr/\Ainfo w0 s=[0-9a-f]{6} t=1 msg listener=front client=127/, 'the message is text, whatever the format');
is($entry->{POSTERN_FROM}, '<a@example.net>', 'a key is a field');
is($entry->{POSTERN_MSGID}, '<1@x> "q"', 'and its value has no quotes around');
is($entry->{POSTERN_CODE}, 250, 'numbers, too');
is("$entry->{POSTERN_WHO} $entry->{POSTERN_LEVEL} $entry->{POSTERN_TXN}", 'w0 info 1', 'and the head of the line');
my $session = $entry->{POSTERN_SESSION};
cmp_ok(scalar(my @all = entries("POSTERN_SESSION=$session")), '>', 3, 'a session is found by its field');

$sink->script(final => "250 2.0.0 one \xff\xfe\n250 2.0.0 two " . 'z' x 400);
is($c->send_message(from => ('f' x 64) . '@' . join('.', ('d' x 60) x 3), content => 'Message-ID: <' . 'm' x 3000 . ">\r\n\r\n"),
	250, 'one with everything long and hostile');
ok((wait_until { grep { $_->{POSTERN_TXN} == 2 } entries('POSTERN_EVENT=msg') }), 'is there');
my ($second) = grep { $_->{POSTERN_TXN} == 2 } entries('POSTERN_EVENT=msg');
like(octets($second->{POSTERN_REPLY}), qr/z{200}/, 'with its reply');
$sink->stop;
is($c->send_message, 451, 'trouble');
like(first_entry('PRIORITY=4')->{MESSAGE}, qr/\Awarn \w+ .*\bbackend /, 'is a warning');

for my $entry (entries()) {
	my $message = octets($entry->{MESSAGE});
	my ($level, $event, @keys) = LogEvents::parse($message);
	my $fault = LogEvents::fault($message);
	my @fields = map { lc s/\APOSTERN_//r } grep { /\APOSTERN_(?!(?:EVENT|LEVEL|WHO|SESSION|TXN)\z)/ } keys %$entry;

	fail("a message $fault: $message") if $fault;
	next if $event eq $entry->{POSTERN_EVENT} && $level eq $entry->{POSTERN_LEVEL}
	    && join(' ', sort @keys) eq join(' ', sort @fields);
	fail("fields and message differ: $message; @fields");
}

# ---- without it ------------------------------------------------------------------------------

kill 'KILL', delete $pids{journald};
$sink->restart;
is($c->send_message(from => 'lost@example.net'), 250, 'mail passes while the journal is away');
kill 'TERM', $pids{postern};
ok((wait_until { !kill 0, $pids{postern} }), 'and postern ends in order') and delete $pids{postern};

write_file("$dir/sh", "mount -t tmpfs none /run && exec $program -c $dir/conf\n");
$out = `unshare -m sh $dir/sh 2>&1 </dev/null`;
is($out, "postern: log /run/systemd/journal/socket: No such file or directory (does systemd-journald run? else try log { to syslog })\n",
	'where there is no journal, a start says so');

done_testing;
