# HttpClient - an HTTP client with its hands on every octet.
#
#   my $reply = HttpClient::get($addr, '/healthz');     # { status, reason, head => {}, body, seconds }
#
#   my $c = HttpClient->new($addr);
#   $c->send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
#   my $reply = $c->read_reply;                         # undef: the connection ended, or silence
#
# ADDR is HOST:PORT, [IPv6]:PORT or unix:PATH.
package HttpClient;
use strict;
use warnings;
use IO::Select;
use IO::Socket::IP;
use IO::Socket::UNIX;
use TestUtil;
use Time::HiRes qw(time);

sub new
{
	my ($class, $addr, %opt) = @_;
	my ($host, $port) = $addr =~ /^\[?([^\[\]]*)\]?:(\d+)\z/;
	my $sock = $addr =~ /^unix:(.*)/ ? IO::Socket::UNIX->new(Peer => $1)
	    : IO::Socket::IP->new(PeerHost => $host, PeerPort => $port, Type => Socket::SOCK_STREAM(),
		$opt{local} ? (LocalHost => $opt{local}) : ());

	die "connect $addr: $!" unless $sock;
	return bless { sock => $sock, in => '', timeout => ($opt{timeout} // 10) * $TestUtil::PATIENCE }, $class;
}

sub sock { return $_[0]{sock} }

sub send
{
	my ($self, $octets) = @_;

	local $SIG{PIPE} = 'IGNORE';
	return defined syswrite $self->{sock}, $octets;
}

# Reads what there is. False at the end of the connection, or when nothing comes in time.
sub fill
{
	my ($self, $timeout) = @_;

	IO::Select->new($self->{sock})->can_read($timeout // $self->{timeout}) or return 0;
	my $n = sysread $self->{sock}, $self->{in}, 65536, length $self->{in};
	$self->{eof} = 1 unless $n;
	return $n;
}

# A request whose reply has no body, HEAD, says so.
sub read_reply
{
	my ($self, %opt) = @_;

	until ($self->{in} =~ /\r\n\r\n/) {
		$self->fill or return;
	}
	my ($head, $rest) = split /\r\n\r\n/, $self->{in}, 2;
	my ($first, @lines) = split /\r\n/, $head;
	my ($status, $reason) = $first =~ m{^HTTP/1\.1 (\d\d\d) (.+)} or die "no reply: $first";
	my %head = map { /^([^:]+): (.*)/ ? (lc $1 => $2) : die "no field: $_" } @lines;
	my $len = $opt{head} ? 0 : $head{'content-length'};

	$self->{in} = $rest;
	while (length $self->{in} < $len) {
		$self->fill or return;
	}
	return { status => $status, reason => $reason, head => \%head, body => substr $self->{in}, 0, $len, '' };
}

# Has the other side ended the connection (now or within the timeout), and said nothing more?
sub is_over { my ($self) = @_; 1 while $self->fill; return $self->{eof} && $self->{in} eq '' }
sub is_open { my ($self) = @_; return !IO::Select->new($self->{sock})->can_read(0) }

sub request { my ($method, $path, @lines) = @_; return join "\r\n", "$method $path HTTP/1.1", 'Host: localhost', @lines, '', '' }

# One question on a connection of its own.
sub get
{
	my ($addr, $path, %opt) = @_;
	my $begin = time;
	my $c = HttpClient->new($addr, %opt);

	$c->send(request($opt{method} // 'GET', $path, 'Connection: close'));
	my $reply = $c->read_reply(head => ($opt{method} // '') eq 'HEAD') // die "no reply to $path";
	$reply->{seconds} = time - $begin;
	return $reply;
}

1;
