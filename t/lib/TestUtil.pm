# TestUtil - small things every test needs: folders, ports, waiting, files, child processes.
package TestUtil;
use strict;
use warnings;
use Exporter 'import';
use File::Temp ();
use IO::Socket::INET;
use POSIX ();
use Time::HiRes qw(clock_gettime sleep CLOCK_MONOTONIC);

our @EXPORT = qw(srcdir builddir temp_dir free_port keep_port wait_until wait_port read_file write_file
    start_process stop_process is_root data_files);

my %given;

# Slow machines and valgrind: every patience is multiplied by this.
our $PATIENCE = $ENV{POSTERN_PATIENCE} || ($ENV{POSTERN_WRAP} ? 10 : 1);

sub srcdir { return $ENV{srcdir} // '.' }
sub builddir { return $ENV{builddir} // (-d 'build' ? 'build' : '.') }
sub is_root { return $> == 0 }

# A folder that goes away with the test. Its path is short, so that Unix sockets fit below it, and
# others may pass through it: servers that give up root must reach their files.
sub temp_dir
{
	my $dir = File::Temp->newdir('pt-XXXXXX', DIR => $ENV{TMPDIR} // '/tmp');

	chmod 0711, "$dir" or die "chmod $dir: $!";
	return $dir;
}

# A port nobody listens on, below those the kernel gives to clients. Nobody reserves it: use port 0
# wherever a server can.
sub free_port
{
	for (1 .. 200) {
		my $port = 15000 + int rand 15000;
		next if $given{$port}++;
		my $sock = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port,
			Proto => 'tcp', Listen => 1, ReuseAddr => 1) or next;
		return $port;
	}
	die 'no free port';
}

# For a server that is stopped and shall have its port again: nobody else is given it meanwhile, and clients are
# refused. As long as the result lives.
sub keep_port
{
	my ($addr) = @_;

	return unless $addr =~ /^[\d.]+:\d+\z/;
	return IO::Socket::INET->new(LocalAddr => $addr, Proto => 'tcp', ReuseAddr => 1);
}

# Calls $cond until it is true or $timeout seconds have gone; returns its last value:
# ok((wait_until { ... } 5), 'name').
sub wait_until(&;$)
{
	my ($cond, $timeout) = @_;
	my $end = clock_gettime(CLOCK_MONOTONIC) + ($timeout // 30) * $PATIENCE;

	while (1) {
		my $value = $cond->();
		return $value if $value || clock_gettime(CLOCK_MONOTONIC) > $end;
		sleep 0.01;
	}
}

# Waits until something accepts connections at HOST:PORT.
sub wait_port
{
	my ($addr, $timeout) = @_;

	return wait_until { IO::Socket::INET->new(PeerAddr => $addr, Proto => 'tcp') } $timeout;
}

sub read_file
{
	my ($path) = @_;

	open my $in, '<:raw', $path or return;
	local $/;
	return scalar <$in> // '';
}

sub write_file
{
	my ($path, $text, $mode) = @_;

	open my $out, '>:raw', $path or die "$path: $!";
	print $out $text;
	close $out or die "$path: $!";
	chmod $mode, $path or die "chmod $path: $!" if defined $mode;
	return $path;
}

# Files below t/data, sorted.
sub data_files
{
	my ($pattern) = @_;

	return sort glob(srcdir() . "/t/data/$pattern");
}

# Starts a program in a session of its own, output to a file. Returns its process id.
sub start_process
{
	my ($output, @argv) = @_;
	my $pid = fork // die "fork: $!";

	return $pid if $pid;
	POSIX::setsid();
	open STDIN, '<', '/dev/null';
	open STDOUT, '>>', $output or POSIX::_exit(126);
	open STDERR, '>&', \*STDOUT;
	{ no warnings; exec { $argv[0] } @argv; }
	print STDERR "exec $argv[0]: $!\n";
	POSIX::_exit(127);
}

# SIGTERM to the process, after $patience seconds SIGKILL to its session. Returns the wait status.
sub stop_process
{
	my ($pid, $patience) = @_;
	my $reap = sub { my $p = waitpid($pid, POSIX::WNOHANG()); return $p == $pid || $p < 0 };

	local $? = 0;
	return $? if $reap->();
	kill 'TERM', $pid;
	unless (wait_until { $reap->() } $patience // 10) {
		kill 'KILL', -$pid, $pid;
		waitpid $pid, 0;
	}
	my $status = $?;
	kill 'KILL', -$pid;	# what it left behind in its session's group
	return $status;
}

1;
