# TlsOctets - the client side of TLS between octets and octets, without a socket: what goes over the wire, when
# and in which pieces, is the caller's affair.
#
#   my $tls = TlsOctets->new(name => 'mail.example');
#   until ($tls->handshake) { $wire->send($tls->take); $tls->feed($wire->read) }
#   $wire->send($tls->seal("EHLO a\r\n"));
#   $tls->feed($wire->read); my $clear = $tls->open;
#
# %opt: name (SNI), ca (a file; without it any certificate will do), cert and key, min and max ("1.2", "1.3"),
# session (of an earlier connection).
package TlsOctets;
use strict;
use warnings;
use Net::SSLeay;

Net::SSLeay::initialize();

my %VERSION = ('1.0' => 0x0301, '1.1' => 0x0302, '1.2' => 0x0303, '1.3' => 0x0304);

sub new
{
	my ($class, %opt) = @_;
	my $ctx = Net::SSLeay::CTX_new_with_method(Net::SSLeay::TLS_client_method());
	my $self = bless { ctx => $ctx, error => '', ended => 0, up => 0 }, $class;

	Net::SSLeay::CTX_set_min_proto_version($ctx, $VERSION{ $opt{min} // '1.2' });
	Net::SSLeay::CTX_set_max_proto_version($ctx, $VERSION{ $opt{max} // '1.3' });
	Net::SSLeay::CTX_set_cipher_list($ctx, 'DEFAULT:@SECLEVEL=0') if ($opt{min} // '1.2') lt '1.2';
	if ($opt{ca}) {
		Net::SSLeay::CTX_load_verify_locations($ctx, $opt{ca}, '') or die "no authority in $opt{ca}";
		Net::SSLeay::CTX_set_verify($ctx, Net::SSLeay::VERIFY_PEER(), undef);
	}
	if ($opt{cert}) {
		Net::SSLeay::CTX_use_certificate_chain_file($ctx, $opt{cert}) or die "no certificate in $opt{cert}";
		Net::SSLeay::CTX_use_PrivateKey_file($ctx, $opt{key}, Net::SSLeay::FILETYPE_PEM()) or die "no key in $opt{key}";
	}
	my $ssl = $self->{ssl} = Net::SSLeay::new($ctx);
	Net::SSLeay::set_tlsext_host_name($ssl, $opt{name}) if $opt{name};
	Net::SSLeay::set_session($ssl, $opt{session}) if $opt{session};
	@$self{qw(in out)} = map { Net::SSLeay::BIO_new(Net::SSLeay::BIO_s_mem()) } 1, 2;
	Net::SSLeay::set_bio($ssl, $self->{in}, $self->{out});
	Net::SSLeay::set_connect_state($ssl);
	return $self;
}

sub DESTROY
{
	my ($self) = @_;

	Net::SSLeay::set_shutdown($self->{ssl}, 3);	# so that its session may be resumed
	Net::SSLeay::free($self->{ssl});
	Net::SSLeay::CTX_free($self->{ctx});
	return;
}

sub feed
{
	my ($self, $octets) = @_;

	Net::SSLeay::BIO_write($self->{in}, $octets) if length $octets;
	return;
}

# What is to be sent now.
sub take
{
	my ($self) = @_;
	my $octets = '';

	while (my $n = Net::SSLeay::BIO_pending($self->{out})) {
		$octets .= Net::SSLeay::BIO_read($self->{out}, $n);
	}
	return $octets;
}

# 1: it is done. 0: it needs what the other side says, or has failed: see error.
sub handshake
{
	my ($self) = @_;

	return 1 if $self->{up};
	return 0 if $self->{error} ne '';
	my $rc = Net::SSLeay::do_handshake($self->{ssl});
	return $self->{up} = 1 if $rc == 1;
	$self->look($rc);
	return 0;
}

sub look
{
	my ($self, $rc) = @_;
	my $why = Net::SSLeay::get_error($self->{ssl}, $rc);
	my $code = Net::SSLeay::ERR_get_error();

	1 while Net::SSLeay::ERR_get_error();
	return if $why == Net::SSLeay::ERROR_WANT_READ();
	return $self->{ended} = 1 if $why == Net::SSLeay::ERROR_ZERO_RETURN();
	$self->{error} = $code ? Net::SSLeay::ERR_error_string($code) : 'the connection ended';
	return;
}

# The octets as records, ready for the wire: one for each 16 K.
sub seal
{
	my ($self, $octets) = @_;

	Net::SSLeay::write($self->{ssl}, $octets) if length $octets;
	return $self->take;
}

# What can be read in clear.
sub open
{
	my ($self) = @_;
	my $clear = '';

	while (1) {
		my ($octets, $rc) = Net::SSLeay::read($self->{ssl}, 65536);
		if (!defined $octets || $rc <= 0) {
			$self->look($rc);
			return $clear;
		}
		$clear .= $octets;
	}
}

# Our goodbye.
sub close
{
	my ($self) = @_;

	Net::SSLeay::shutdown($self->{ssl});
	return $self->take;
}

# Has the other side said goodbye?
sub ended { return $_[0]{ended} }
sub error { return $_[0]{error} }
sub version { return Net::SSLeay::get_version($_[0]{ssl}) }
sub cipher { return Net::SSLeay::get_cipher($_[0]{ssl}) }
sub is_resumed { return Net::SSLeay::session_reused($_[0]{ssl}) }
# To be asked for when octets have come behind the handshake: tickets come with them.
sub session { return Net::SSLeay::get1_session($_[0]{ssl}) }

# SHA-256 of the other side's certificate, in hexadecimal.
sub fingerprint
{
	my ($self) = @_;
	my $cert = Net::SSLeay::get_peer_certificate($self->{ssl}) or return '';
	my $text = lc(Net::SSLeay::X509_get_fingerprint($cert, 'sha256') =~ s/://gr);

	Net::SSLeay::X509_free($cert);
	return $text;
}

1;
