# Clamd - a real clamd with one signature, that of the EICAR test file.
#
#   Clamd->find or plan skip_all => 'clamd is not installed';
#   my $clamd = Clamd->start('StreamMaxLength 1M');
#   ... socket @{[ $clamd->addr ]} or @{[ $clamd->unix ]} ...
package Clamd;
use strict;
use warnings;
use TestUtil;

our $EICAR = join '', 'X5O!P%@AP[4\PZX54(P^)7CC)7}$', 'EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*';
our $NAME = 'Test.Eicar.UNOFFICIAL';

sub find { return (grep { -x } '/usr/sbin/clamd', '/usr/local/sbin/clamd', '/usr/bin/clamd')[0] }

# Lines of clamd.conf; one that is here as well takes its place.
sub start
{
	my ($class, @lines) = @_;
	my $self = bless { dir => temp_dir(), owner => $$, port => free_port() }, $class;
	my %conf = (
		LocalSocket => "$self->{dir}/ctl", LocalSocketMode => '666', TCPSocket => $self->{port},
		TCPAddr => '127.0.0.1', DatabaseDirectory => "$self->{dir}/db", Foreground => 'yes',
		LogFile => "$self->{dir}/clamd.log", LogVerbose => 'yes', TemporaryDirectory => "$self->{dir}",
		FixStaleSocket => 'yes', SelfCheck => 0, ConcurrentDatabaseReload => 'no', (map { split ' ', $_, 2 } @lines),
		is_root() ? (User => 'root') : (),
	);

	mkdir "$self->{dir}/db";
	write_file("$self->{dir}/db/test.ndb", 'Test.Eicar:0:*:' . unpack('H*', $EICAR) . "\n");
	write_file($self->conf_file, join '', map { "$_ $conf{$_}\n" } sort keys %conf);
	return $self->run;
}

sub run
{
	my ($self) = @_;

	$self->{pid} = start_process("$self->{dir}/out", $self->find, '-c', $self->conf_file);
	wait_port("127.0.0.1:$self->{port}", 20) or die 'clamd does not start: ' . read_file("$self->{dir}/out");
	wait_until { IO::Socket::UNIX->new(Peer => "$self->{dir}/ctl") } 20 or die 'clamd has no socket';
	return $self;
}

sub conf_file { return "$_[0]{dir}/clamd.conf" }
sub addr { return "127.0.0.1:$_[0]{port}" }
sub unix { return "unix:$_[0]{dir}/ctl" }
sub log { return read_file("$_[0]{dir}/clamd.log") // '' }
sub stop { my ($self) = @_; stop_process(delete $self->{pid}, 20) if $self->{pid}; return }
sub restart { my ($self) = @_; $self->stop; return $self->run }

sub DESTROY { my ($self) = @_; local $?; $self->stop if $self->{owner} == $$; return }

1;
