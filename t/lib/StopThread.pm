# StopThread - one thread of another process stands still, as in a debugger.
#
#   my $stopped = StopThread->new($tid) or skip 'no ptrace here', 3;
#   ...
#   $stopped->go;        # or when $stopped is forgotten, or we end
#
# SIGSTOP would stop all threads of the process; ptrace(2) stops one.
package StopThread;
use strict;
use warnings;
use POSIX ();
use TestUtil;

my %PTRACE = (x86_64 => 101, aarch64 => 117);	# its number, by machine
my ($SEIZE, $INTERRUPT, $DETACH) = (0x4206, 0x4207, 17);
my $WALL = 0x40000000;

sub ptrace
{
	my ($request, $tid) = @_;
	my $number = $PTRACE{ (POSIX::uname())[4] } // return 0;

	return syscall($number, $request, $tid + 0, 0, 0) == 0;	# a text would go as its address
}

sub state { return (read_file("/proc/$_[0]/stat") // '') =~ /\) (\w)/ ? $1 : '' }

# False where nobody may trace.
sub new
{
	my ($class, $tid) = @_;

	ptrace($SEIZE, $tid) or return;
	my $self = bless { tid => $tid, owner => $$ }, $class;
	ptrace($INTERRUPT, $tid) or return;
	wait_until { state($tid) eq 't' } or return;
	return $self;
}

sub go
{
	my ($self) = @_;

	return if $self->{owner} != $$ || $self->{is_gone}++;
	local ($?, $!);
	waitpid $self->{tid}, $WALL;	# only who knows of the stop may end it
	ptrace($DETACH, $self->{tid});
	return;
}

sub DESTROY { $_[0]->go; return }

# The threads of a process by name: { w0 => tid, ... }
sub threads
{
	my ($pid) = @_;

	return { map { (read_file("$_/comm") // '') =~ s/\n//r => s{.*/}{}r } glob "/proc/$pid/task/*" };
}

1;
