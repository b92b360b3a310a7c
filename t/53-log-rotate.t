#!/usr/bin/perl
# The real logrotate, with contrib/logrotate/postern, turns the log of a postern under load: no line is
# lost, and the new file is written after the signal, which may be USR1 or HUP.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use LogEvents;
use POSIX ();
use Test::More;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR};
plan skip_all => 'needs root, to become the user of the log' unless is_root();
my ($logrotate) = grep { -x } '/usr/sbin/logrotate', '/usr/bin/logrotate';
plan skip_all => 'needs logrotate' unless $logrotate;

my $sink = SmtpSink->start;
my $proxy = TestProxy->start(<<"CONF", daemon => 1);
workers 2
listener front { listen 127.0.0.1:@{[ free_port() ]}; backend inner }
backend inner { hosts @{[ $sink->addr ]} }
CONF
my $dir = $proxy->{dir};
my ($uid) = (getpwnam 'nobody')[2];

is((stat "$dir/log")[4], $uid, 'the log belongs to the user');

# contrib/logrotate/postern, for our folder and user.
my $conf = read_file(srcdir() . '/contrib/logrotate/postern');
$conf =~ s{/var/log/postern/log}{$dir/log}g and $conf =~ s{/run/postern\.pid}{$dir/pid}g or die 'no paths';
$conf =~ s/\bpostern adm$/nobody adm/mg or die 'no user';
my $rc = temp_dir();
write_file("$rc/conf", $conf, 0644);

sub rotate
{
	my $out = `$logrotate --force --state $rc/state $rc/conf 2>&1`;

	is($?, 0, 'logrotate is content') or diag $out;
	is($out, '', 'and says nothing');
	return;
}

# ---- load ------------------------------------------------------------------------------------

my @senders;
END { local $?; kill 'KILL', @senders if @senders }
for my $n (1 .. 2) {
	my $pid = fork // die "fork: $!";
	if ($pid) { push @senders, $pid; next }
	my ($stop, $sent) = (0, 0);
	local $SIG{TERM} = sub { $stop = 1 };
	my $c = SmtpClient->connect($proxy->addr);
	$c->ehlo;
	while (!$stop) { $sent++ if $c->send_message(from => "n$n-$sent\@example.net") == 250 }
	write_file("$rc/sent$n", $sent);
	POSIX::_exit(0);
}

# A line that is in the new file, and the number of lines in it.
sub grows { return wait_until { $proxy->log =~ / msg .* msg .* msg /s } }

ok(grows(), 'the log grows');
for my $turn (1 .. 3) {
	my $old = (stat "$dir/log")[1];
	rotate();
	isnt((stat "$dir/log")[1], $old, 'there is a new file');
	ok(grows(), "and it is written ($turn)");
}
rename "$dir/log", "$dir/log.by-hand" or die "rename: $!";
$proxy->signal('HUP');
ok(grows(), 'HUP does it too, and where there is no file it makes one');
is(sprintf('%o %d', (stat "$dir/log")[2] & 07777, (stat _)[4]), "640 $uid", 'that the group may read');
ok($proxy->wait_log(qr/ log state=reopened/), 'the log says so');

kill 'TERM', @senders;
waitpid $_, 0 for @senders;
@senders = ();
$proxy->stop;

# ---- all of it -------------------------------------------------------------------------------

my @lines = split /\n/, `cat $dir/log $dir/log.by-hand \$(ls $dir/log.[0-9] ) && gzip -dc $dir/log.*.gz`;
my %seen;
for my $line (@lines) {
	my $fault = LogEvents::fault($line);
	$fault and fail("a line $fault: $line");
	$seen{$1}++ if $line =~ / msg .* from=<(n\d-\d+)\@/;
}
my $sent = 0;
for my $n (1 .. 2) {
	my $count = read_file("$rc/sent$n");
	is(join(' ', grep { ($seen{"n$n-$_"} // 0) != 1 } 0 .. $count - 1), '', "sender $n: each of $count messages has one line");
	$sent += $count;
}
cmp_ok($sent, '>', 20, "$sent messages were sent meanwhile");

done_testing;
