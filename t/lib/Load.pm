# Load - processes that send messages until they are told to stop, and write down what they hear.
#
#   my $load = Load->start($proxy->addr, 3);
#   ... kill, reload, upgrade ...
#   my @lines = $load->stop;       # "250 1-7", "451 1-8", "lost 1-9", "refused ..."
#   is_complete($sink, @lines);    # what was taken has arrived, once
#
# Each message has a field X-Key with the id that its line has.
package Load;
use strict;
use warnings;
use Exporter 'import';
use POSIX ();
use SmtpClient;
use Test::More;
use TestUtil;

our @EXPORT = qw(is_complete);

# %opt: name (what ids begin with, where several loads have one sink).
sub start
{
	my ($class, $addr, $count, %opt) = @_;
	my $self = bless { dir => temp_dir(), pids => [] }, $class;

	for my $id (map { ($opt{name} // '') . $_ } 1 .. $count) {
		my $pid = fork // die "fork: $!";
		if ($pid == 0) {
			eval { $self->send_messages($addr, $id); 1 } or print STDERR "# load: $@";
			POSIX::_exit(0);
		}
		push @{ $self->{pids} }, $pid;
	}
	return $self;
}

sub send_messages
{
	my ($self, $addr, $id) = @_;
	my ($n, $test) = (0, getppid);

	open my $out, '>', "$self->{dir}/$id.heard" or die "$id: $!";
	$out->autoflush;
	# A test that died tells nobody to stop.
	until (-e "$self->{dir}/stop" || getppid != $test) {
		my $c = eval { SmtpClient->connect($addr, timeout => 60) };
		print $out "refused $@" =~ s/\n*\z/\n/r if !$c && $@ =~ /refused/i;
		next unless $c && $c->greeting == 220 && (eval { $c->ehlo } // 0) == 250;
		for (1 .. 10) {
			my $key = "$id-" . ++$n;
			my $reply = eval { $c->send_message(content => "X-Key: $key\r\n\r\nx\r\n") } || 'lost';
			print $out "$reply $key\n";
			last unless $reply eq '250';
		}
		eval { $c->quit };
	}
	return;
}

# What all have heard, as lines.
sub stop
{
	my ($self) = @_;

	write_file("$self->{dir}/stop", '');
	local $?;
	waitpid $_, 0 for splice @{ $self->{pids} };
	return map { split /\n/, read_file($_) // '' } glob "$self->{dir}/*.heard";
}

# Each 250 is at the back-end, once; what is there twice was answered by nothing.
sub is_complete
{
	my ($sink, @lines) = @_;
	my %told = map { reverse split } grep { /^(?:\d+|lost) / } @lines;
	my %got;

	$got{$_}++ for map { $_->{content} =~ /^X-Key: (\S+)/m } $sink->messages;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(join(' ', grep { $told{$_} eq '250' && !$got{$_} } sort keys %told), '', 'each message that was taken has arrived');
	is(join(' ', grep { $told{$_} eq '250' && ($got{$_} // 0) > 1 } sort keys %told), '', 'and once');
	return;
}

1;
