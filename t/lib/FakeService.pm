# FakeService - a service that filters speak to, which does what a script of the test tells it, right or wrong.
#
#   my $fake = FakeService->start(sub {
#       my ($c, $n) = @_;              # one connection; $n: which, from 1
#       my $command = $c->read_to("\0") // return;
#       $c->note($command);
#       $c->send("stream: OK\0");
#   });
#   ... filter { socket @{[ $fake->addr ]} } ...
#   is $fake->count, 1;               # connections so far
#   is_deeply [ $fake->notes ], [ ... ];
#
# Each connection is served by a process of its own; at the end of the script it is closed. %opt: address ("unix:PATH"
# or HOST:PORT, by default a free port of 127.0.0.1), receive (octets of the socket's receive buffer, for one that is
# to be full soon).
package FakeService;
use strict;
use warnings;
use IO::Socket::INET;
use IO::Socket::UNIX;
use POSIX ();
use Socket qw(SOL_SOCKET SO_LINGER SO_RCVBUF SOMAXCONN);
use TestUtil;

sub start
{
	my ($class, $script, %opt) = @_;
	my $self = bless { dir => temp_dir(), script => $script, owner => $$, %opt }, $class;

	$self->{address} //= '127.0.0.1:0';
	$self->spawn;
	return $self;
}

sub spawn
{
	my ($self) = @_;
	my ($path) = $self->{address} =~ /^unix:(.*)/;

	unlink $path if defined $path;
	my $listen = defined $path
	    ? IO::Socket::UNIX->new(Local => $path, Listen => SOMAXCONN)
	    : IO::Socket::INET->new(LocalAddr => $self->{address}, Proto => 'tcp', Listen => SOMAXCONN, ReuseAddr => 1);
	die "listen $self->{address}: $!" unless $listen;
	chmod 0666, $path if defined $path;
	$listen->sockopt(SO_RCVBUF, $self->{receive}) if $self->{receive};
	$self->{address} =~ s/:0\z/':' . $listen->sockport/e unless defined $path;
	$self->{pid} = fork // die "fork: $!";
	return if $self->{pid};
	POSIX::setsid();
	$self->serve($listen);
	POSIX::_exit(0);
}

sub serve
{
	my ($self, $listen) = @_;

	$SIG{CHLD} = 'IGNORE';
	$SIG{TERM} = sub { POSIX::_exit(0) };
	$SIG{PIPE} = 'IGNORE';
	while (1) {
		my $sock = $listen->accept or next;
		my $n = add_line("$self->{dir}/connections", '');
		if ((fork // die "fork: $!") == 0) {
			close $listen;
			eval { $self->{script}->(FakeService::Conn->new($sock, "$self->{dir}/notes"), $n) };
			print STDERR "# fake service: $@" if $@;
			POSIX::_exit(0);
		}
		close $sock;
	}
	return;
}

# Returns how many lines there are now, when only one process writes.
sub add_line
{
	my ($path, $text) = @_;

	open my $out, '>>', $path or die "$path: $!";
	syswrite $out, "$text\n";
	return tell_lines($path);
}

sub tell_lines { return (read_file($_[0]) // '') =~ tr/\n// }

sub addr { return $_[0]{address} }
sub count { return tell_lines("$_[0]{dir}/connections") }

# What the scripts noted, in that order.
sub notes { return split /\n/, read_file("$_[0]{dir}/notes") // '' }

sub stop
{
	my ($self) = @_;
	my $pid = delete $self->{pid} or return;

	local ($?, $!);
	kill 'TERM', -$pid;
	waitpid $pid, 0;
	$self->{place} = keep_port($self->{address});
	return;
}

# At the same address.
sub restart
{
	my ($self, $script) = @_;

	$self->stop;
	$self->{script} = $script if $script;
	$self->spawn;
	return $self;
}

sub DESTROY { my ($self) = @_; $self->stop if $self->{owner} == $$; return }

# One connection, as the script sees it.
package FakeService::Conn;
use strict;
use warnings;
use Socket qw(SOL_SOCKET SO_LINGER);
use Time::HiRes 'sleep';

sub new
{
	my ($class, $sock, $notes) = @_;

	return bless { sock => $sock, in => '', notes => $notes }, $class;
}

sub fill { my ($self) = @_; return sysread $self->{sock}, $self->{in}, 65536, length $self->{in} }

# So many octets; fewer when the other side ends before.
sub read
{
	my ($self, $n) = @_;

	while (length $self->{in} < $n && $self->fill) { }
	return substr $self->{in}, 0, $n, '';
}

# Up to this end, without it; undefined when the other side ends before.
sub read_to
{
	my ($self, $end) = @_;
	my $at;

	while (($at = index $self->{in}, $end) < 0) {
		$self->fill or return;
	}
	my $text = substr $self->{in}, 0, $at, '';
	substr($self->{in}, 0, length $end) = '';
	return $text;
}

# All up to the other side's end.
sub read_all { my ($self) = @_; while ($self->fill) { } return delete $self->{in} // '' }

# Reads and says nothing, also behind the other side's end (of which it may have closed only a half), until the service
# is stopped.
sub hold
{
	my ($self) = @_;

	$self->read_all;
	return $self->deaf(60);
}

# The same without reading, for so many seconds.
sub deaf { my ($self, $seconds) = @_; sleep $seconds; return }

sub send
{
	my ($self, $octets) = @_;

	while (length $octets) {
		my $n = syswrite($self->{sock}, $octets) // return 0;
		substr($octets, 0, $n) = '';
	}
	return 1;
}

# Octet by octet.
sub drip
{
	my ($self, $octets, $pause) = @_;

	for my $octet (split //, $octets) {
		$self->send($octet) or return 0;
		sleep $pause;
	}
	return 1;
}

# Again and again, until the other side goes.
sub flood { my ($self, $octets) = @_; while ($self->send($octets)) { } return }

sub half_close { my ($self) = @_; shutdown $self->{sock}, 1; return }
sub close { my ($self) = @_; CORE::close $self->{sock}; return }

# With RST instead of an orderly end.
sub reset
{
	my ($self) = @_;

	setsockopt $self->{sock}, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
	CORE::close $self->{sock};
	return;
}

sub note
{
	my ($self, $text) = @_;

	open my $out, '>>', $self->{notes} or die "notes: $!";
	syswrite $out, ($text =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ger) . "\n";
	return;
}

1;
