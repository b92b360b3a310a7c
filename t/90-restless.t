#!/usr/bin/perl
# Reloads, upgrades and kills at random under load: whatever meets whatever, nobody is refused, nothing that was taken
# is lost, and in the end there is one engine with one spawner. RESTLESS=60 goes on for so many seconds, SEED=n again as
# the seed says that a test that failed has told.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use File::Copy ();
use Load;
use SmtpSink;
use TestProxy;
use TestUtil;
use Time::HiRes qw(time sleep);

plan skip_all => 'kills its own proxies' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};

my $seed = $ENV{SEED} || int(time * 1000) % 1_000_000;
my $sink = SmtpSink->start;
my $back = 'hosts ' . $sink->addr;
my $base = "listener front { listen 127.0.0.1:0; backend inner }\nhealth { listen 127.0.0.1:@{[ free_port() ]} }\n";
my @confs = (
	"${base}backend inner { $back }\n",
	"${base}backend inner { $back; max_idle 2 }\n",
	"${base}backend inner { $back }\nworkers 1\n",
	"${base}backend inner { $back }\nworkers 2\nwatch_config yes\n",
	"${base}backend inner { $back }\nlistener two { listen 127.0.0.1:0; backend inner }\n",
	"${base}backend inner { $back }\nspool { directory %d/other }\n",
	"${base}backend inner { $back }\nnonsense\n",
	"${base}backend inner { $back }\nlistener two { listen 127.0.0.1:0; backend inner; tls { certificate /none; key /none } }\n",
);

sub name_of { return (read_file("/proc/$_[0]/comm") // '') =~ s/\n//r }
sub those { my ($proxy, $name) = @_; return grep { name_of($_) eq $name } $proxy->children }

sub something
{
	my ($proxy, $kills) = @_;
	my $what = int rand($kills ? 10 : 7);

	if ($what < 4) { $proxy->write_conf($confs[rand @confs]); $proxy->signal('HUP') }
	elsif ($what < 6) { $proxy->signal('USR2') }
	elsif ($what == 6) { $proxy->signal('HUP') for 1 .. 20 }
	else {
		my @procs = those($proxy, $what == 7 ? 'postern-spawn' : 'postern-engine');
		kill 'KILL', $procs[rand @procs] if @procs;
	}
	return sleep rand 0.3;
}

sub restless
{
	my ($kills) = @_;
	my $home = temp_dir();

	mkdir "$home/bin", 0755;
	File::Copy::copy(builddir() . "/$_", "$home/bin/$_") && chmod 0755, "$home/bin/$_" or die "$_: $!"
	    for 'postern', 'postern-helper';
	local $ENV{POSTERN} = "$home/bin/postern";
	my $proxy = TestProxy->start($confs[0], folders => ['other']);
	chmod 0700, $proxy->dir . '/other';
	my $load = Load->start($proxy->addr, 3, name => $kills ? 'k' : 'u');
	my $end = time + ($ENV{RESTLESS} || 6);

	srand $seed;
	something($proxy, $kills) while time < $end && $proxy->is_running;
	ok($proxy->is_running, 'it is there') or diag "SEED=$seed", $proxy->log;
	$proxy->write_conf($confs[0]);
	my $from = length $proxy->log;
	$proxy->signal('HUP');
	ok((wait_until { substr($proxy->log, $from) =~ /^\S+ m reload state=done /m } 60), 'it reloads');
	my $before = $sink->count;
	ok((wait_until { $sink->count > $before + 10 } 60), 'mail passes');
	ok((wait_until { those($proxy, 'postern-engine') == 1 && those($proxy, 'postern-spawn') == 1 } 60), 'one engine has one spawner')
	    or diag "SEED=$seed\n", `pgrep -a -P @{[ $proxy->pid ]}`;
	my @fds = glob "/proc/@{[ $proxy->pid ]}/fd/*";
	cmp_ok(scalar @fds, '<', 20, 'the monitor has no descriptors too many') or diag map { readlink($_) . "\n" } @fds;
	my @lines = $load->stop;
	is(join(' ', grep { /^refused/ } @lines), '', 'nobody was refused') or diag "SEED=$seed";
	is_complete($sink, @lines);
	diag "SEED=$seed" unless Test::More->builder->is_passing;
	is(join(' ', grep { /^lost/ } @lines), '', 'no connection was cut') or diag "SEED=$seed" unless $kills;
	is($proxy->stop, 0, 'it stops in good order');
	return;
}

subtest 'reloads and upgrades' => sub { restless(0) };
subtest 'and kills' => sub { restless(1) };

done_testing;
