# SmtpClient - an SMTP client with its hands on every octet.
#
#   my $c = SmtpClient->connect($addr);
#   $c->ehlo; $c->mail('a@example.net'); $c->rcpt('b@example.org');
#   is $c->send_message(content => $octets), 250, 'it is taken';
#   $c->starttls(ca => $file); $c->ehlo;            # or SmtpClient->connect($addr, tls => { ca => $file })
#
# A reply compares as its code and knows its lines: $reply->text, $reply->lines, $reply->enhanced.
package SmtpClient::Reply;
use strict;
use warnings;
use overload '""' => sub { $_[0]{code} }, '0+' => sub { $_[0]{code} },
    'bool' => sub { $_[0]{code} > 0 }, fallback => 1;

sub code { return $_[0]{code} }
sub lines { return @{ $_[0]{lines} } }
sub raw { return $_[0]{raw} }
sub text { return join "\n", map { substr $_, 4 } @{ $_[0]{lines} } }
sub enhanced { return $_[0]->text =~ /^(\d\.\d+\.\d+)/ ? $1 : undef }

package SmtpClient;
use strict;
use warnings;
use IO::Socket::INET;
use IO::Socket::UNIX;
use IO::Select;
use Socket qw(IPPROTO_TCP TCP_NODELAY SOL_SOCKET SO_LINGER);
use TestUtil;
use Time::HiRes qw(time sleep);

our $TIMEOUT = 30;
my $REPLY = qr/\A((?:\d{3}-[^\n]*\n)*\d{3}(?: [^\n]*)?\r?\n)/;

# Connects without reading the greeting. %opt: timeout, local (source address), tls (a hash for TlsOctets: the
# connection begins with the handshake).
sub new
{
	my ($class, $addr, %opt) = @_;
	my $sock = $addr =~ m{^(?:unix:)?(/.*)}
	    ? IO::Socket::UNIX->new(Peer => $1)
	    : IO::Socket::INET->new(PeerAddr => $addr, Proto => 'tcp', Timeout => 10,
		$opt{local} ? (LocalAddr => $opt{local}) : ());

	die "connect $addr: $!" unless $sock;
	$sock->blocking(1);
	$sock->setsockopt(IPPROTO_TCP, TCP_NODELAY, 1) if $sock->isa('IO::Socket::INET');
	my $self = bless { sock => $sock, in => '', eof => 0,
		timeout => ($opt{timeout} // $TIMEOUT) * $TestUtil::PATIENCE }, $class;
	@$self{qw(port to_port)} = ($sock->sockport, $sock->peerport) if $sock->isa('IO::Socket::INET');
	$self->shake(%{ $opt{tls} }) or die "TLS: $self->{tls_error}\n" if $opt{tls};
	return $self;
}

# Connects and takes the greeting, which must be 220.
sub connect
{
	my ($class, $addr, %opt) = @_;
	my $self = $class->new($addr, %opt);

	$self->{greeting} = $self->expect(220);
	return $self;
}

sub greeting { return $_[0]{greeting} }
sub caps { return $_[0]{caps} // [] }
sub sock { return $_[0]{sock} }
# Ours and that of the other side, also when the connection is no more.
sub ports { return @{ $_[0] }{qw(port to_port)} }

# ---- octets --------------------------------------------------------------------------------

# Sends all octets, through TLS if it is on: one record (or one for each 16 K). False when the other side has
# gone.
sub send
{
	my ($self, $octets) = @_;

	return $self->send_raw($self->{tls} ? $self->{tls}->seal($octets) : $octets);
}

# Sends octets as they are, also below TLS.
sub send_raw
{
	my ($self, $octets) = @_;

	local $SIG{PIPE} = 'IGNORE';
	while (length $octets) {
		my $n = syswrite($self->{sock}, $octets, 262144) // return 0;
		substr($octets, 0, $n) = '';
	}
	return 1;
}

# Sends pieces as packets of their own. The pause only keeps them apart on the way.
sub send_pieces
{
	my ($self, @pieces) = @_;

	for my $i (0 .. $#pieces) {
		$self->send($pieces[$i]) or return 0;
		sleep 0.002 if $i < $#pieces;
	}
	return 1;
}

# Sends octets in pieces of $size.
sub send_split
{
	my ($self, $octets, $size) = @_;

	return $self->send_pieces(unpack "(a$size)*", $octets);
}

# Reads what there is, as it is. Undefined at the end of the connection or after the timeout.
sub read_raw
{
	my ($self, $timeout) = @_;
	my $octets = '';

	return if $self->{eof};
	IO::Select->new($self->{sock})->can_read($timeout // $self->{timeout}) or return;
	my $n = sysread $self->{sock}, $octets, 65536;
	return $octets if $n;
	$self->{eof} = 1;
	$self->{error} = defined $n ? '' : "$!";
	return;
}

# Reads what there is. False at the end of the connection or after the timeout. Of TLS the goodbye is the end,
# too, and what TLS says for itself (tickets) is nothing.
sub fill
{
	my ($self, $timeout) = @_;
	my $end = time + ($timeout // $self->{timeout});

	do {
		my $octets = $self->read_raw($end > time ? $end - time : 0) // return 0;
		$octets = $self->open_tls($octets) if $self->{tls};
		$self->{in} .= $octets;
		return length $octets if length $octets;
	} until $self->{eof};
	return 0;
}

# Waits for the other side to close; true when it has. error() tells a reset from an orderly end.
sub wait_eof
{
	my ($self) = @_;

	1 while $self->fill;
	return $self->{eof};
}

sub error { return $_[0]{error} }

# What has come in and was not read as a reply.
sub pending { return $_[0]{in} }

# Is nothing to be read, now and for $seconds? For what must not be answered yet.
sub is_silent
{
	my ($self, $seconds) = @_;

	return $self->{in} eq '' && !$self->fill($seconds // 0.1) && !$self->{eof};
}

# ---- TLS -----------------------------------------------------------------------------------

sub tls { return $_[0]{tls} }
sub tls_error { return $_[0]{tls_error} // '' }

# The handshake; %opt goes to TlsOctets. False when it fails: tls_error says why.
sub shake
{
	my ($self, %opt) = @_;

	require TlsOctets;	# not everybody has Net::SSLeay
	my $tls = TlsOctets->new(%opt);

	die "octets in clear before the handshake: $self->{in}" if $self->{in} ne '';
	until ($tls->handshake) {
		$self->send_raw($tls->take);
		last if $tls->error ne '';
		$tls->feed($self->read_raw // last);
	}
	$self->send_raw($tls->take);
	$self->{tls_error} = $tls->error || ($tls->handshake ? '' : $self->{error} || 'the connection ended');
	return 0 if $self->{tls_error} ne '';
	$self->{tls} = $tls;
	$self->{in} = $tls->open;
	return 1;
}

# STARTTLS and the handshake, which must succeed.
sub starttls
{
	my ($self, %opt) = @_;

	$self->{last} = 'STARTTLS';
	$self->send("STARTTLS\r\n");
	my $reply = $self->expect(220);
	$self->shake(%opt) or die "TLS: $self->{tls_error}\n";
	delete $self->{caps};
	return $reply;
}

sub open_tls
{
	my ($self, $octets) = @_;
	my $tls = $self->{tls};

	$tls->feed($octets);
	my $clear = $tls->open;
	$self->{tls_error} = $tls->error;
	@$self{qw(eof error)} = (1, $tls->error) if $tls->ended || $tls->error ne '';
	return $clear;
}

# Has the other side ended TLS as it should?
sub got_goodbye { return $_[0]{tls} && $_[0]{tls}->ended }

# Our goodbye; the connection below stays open.
sub say_goodbye { return $_[0]->send_raw($_[0]{tls}->close) }

# ---- replies -------------------------------------------------------------------------------

# One reply with all its lines. Code 0: the connection ended or the time was up; what came instead is
# in raw.
sub read_reply
{
	my ($self) = @_;
	my $end = time + $self->{timeout};

	until ($self->{in} =~ $REPLY) {
		my $left = $end - time;
		next if $left > 0 && $self->fill($left);
		return bless { code => 0, lines => [], raw => $self->{in} }, 'SmtpClient::Reply';
	}
	my $raw = $self->{in} =~ s/$REPLY// ? $1 : '';
	my @lines = split /\r?\n/, $raw;
	return bless { code => substr($lines[-1], 0, 3), lines => \@lines, raw => $raw },
	    'SmtpClient::Reply';
}

# One reply, which must have this code (or one of these); dies with what came instead.
sub expect
{
	my ($self, @codes) = @_;
	my $reply = $self->read_reply;

	return $reply if grep { $_ == $reply->code } @codes;
	my $last = $self->{last} // 'the connection';
	die "after $last: expected @codes, got "
	    . ($reply->code ? $reply->raw : "no reply (read: '" . $reply->raw . "')") . "\n";
}

sub command
{
	my ($self, $line) = @_;

	$self->{last} = $line;
	$self->send("$line\r\n");
	return $self->read_reply;
}

# ---- the dialog ----------------------------------------------------------------------------

sub ehlo
{
	my ($self, $name) = @_;
	my $reply = $self->command('EHLO ' . ($name // 'client.example'));
	my @lines = split /\n/, $reply->text;

	shift @lines;
	$self->{caps} = \@lines;
	return $reply;
}

sub has { return scalar grep { /^\Q$_[1]\E(?: |$)/i } @{ $_[0]->caps } }

sub helo { return $_[0]->command('HELO ' . ($_[1] // 'client.example')) }
sub mail { my ($c, $from, @p) = @_; return $c->command(join ' ', "MAIL FROM:<$from>", @p) }
sub rcpt { my ($c, $to, @p) = @_; return $c->command(join ' ', "RCPT TO:<$to>", @p) }
sub data { return $_[0]->command('DATA') }
sub rset { return $_[0]->command('RSET') }
sub noop { return $_[0]->command('NOOP') }
sub quit { return $_[0]->command('QUIT') }

# Content as it goes over the wire after DATA: dot lines stuffed, ended by CRLF . CRLF.
sub stuffed
{
	my ($octets) = @_;

	$octets =~ s/(\A|\r\n)\./$1../g;
	$octets .= "\r\n" unless $octets eq '' || $octets =~ /\r\n\z/;
	return "$octets.\r\n";
}

# A whole transaction; returns the first refusal, or the reply to the end of data. %opt: from, to
# (one or a list), content or file, pipeline (all in one packet), mail_params.
sub send_message
{
	my ($self, %opt) = @_;
	my $content = $opt{content} // (defined $opt{file} ? read_file($opt{file}) : undef)
	    // "Subject: test\r\n\r\ntest\r\n";
	my $from = $opt{from} // 'sender@example.net';
	my @to = ref $opt{to} ? @{ $opt{to} } : $opt{to} // 'rcpt@example.org';

	$self->ehlo unless $self->{caps};
	return $self->send_group($from, \@to, $content, $opt{mail_params}) if $opt{pipeline};
	my $reply = $self->mail($from, $opt{mail_params} // ());
	return $reply if $reply != 250;
	for my $to (@to) {
		$reply = $self->rcpt($to);
		return $reply unless $reply == 250 || $reply == 251;
	}
	$reply = $self->data;
	return $reply if $reply != 354;
	$self->{last} = 'the end of data';
	$self->send(stuffed($content));
	return $self->read_reply;
}

# MAIL, RCPT and DATA in one packet, as MTAs do.
sub send_group
{
	my ($self, $from, $to, $content, $params) = @_;
	my @lines = (join(' ', "MAIL FROM:<$from>", $params // ()), map { "RCPT TO:<$_>" } @$to);

	$self->send(join '', map { "$_\r\n" } @lines, 'DATA');
	my @replies = map { $self->read_reply } 0 .. @lines;
	my $data = $replies[-1];
	unless ($data == 354) {
		my ($refused) = grep { $_ >= 400 } @replies;
		return $refused // $data;
	}
	$self->{last} = 'the end of data';
	$self->send(stuffed($content));
	return $self->read_reply;
}

# Sends content by BDAT in chunks of these sizes (the rest is the last one); returns the last reply.
sub bdat
{
	my ($self, $content, @sizes) = @_;

	for my $size (@sizes) {
		my $chunk = substr $content, 0, $size, '';
		$self->send('BDAT ' . length($chunk) . "\r\n$chunk");
		my $reply = $self->read_reply;
		return $reply if $reply != 250;
	}
	$self->send('BDAT ' . length($content) . " LAST\r\n$content");
	return $self->read_reply;
}

# ---- the end -------------------------------------------------------------------------------

# We will send no more, but still read.
sub half_close { return shutdown $_[0]{sock}, 1 }

sub close { return CORE::close($_[0]{sock}) }

# Ends with RST.
sub reset
{
	my ($self) = @_;

	$self->{sock}->setsockopt(SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0);
	return CORE::close($self->{sock});
}

1;
