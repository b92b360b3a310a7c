# SinkTls - the server side of TLS for SmtpSink: octets in, octets out, no socket.
#
#   my $ctx = SinkTls->context(cert => $cert, key => $key);
#   my $tls = SinkTls->new($ctx);
#   $tls->feed($octets);            # what was received
#   $tls->handshake;                # 1 done, 0 needs more, -1 failed ($tls->error)
#   $tls->read;                     # what it says in clear; '' for nothing
#   $tls->write($text); $tls->goodbye;
#   $tls->take;                     # what is to be sent
#
# Arguments of context(): cert, key, versions (['1.2', '1.2'], the oldest and the newest), ciphers (of TLS up to
# 1.2), client_ca (then a client needs a certificate of it), ask (any will do), tickets (their number).
package SinkTls;
use strict;
use warnings;
use Net::SSLeay ();

my %VERSION = ('1.0' => 0x301, '1.1' => 0x302, '1.2' => 0x303, '1.3' => 0x304);

sub context
{
	my ($class, %opt) = @_;
	my $ctx = Net::SSLeay::CTX_new_with_method(Net::SSLeay::TLS_server_method()) or fail('no context');

	Net::SSLeay::CTX_use_certificate_chain_file($ctx, $opt{cert}) == 1 or fail("certificate $opt{cert}");
	Net::SSLeay::CTX_use_PrivateKey_file($ctx, $opt{key}, Net::SSLeay::FILETYPE_PEM()) == 1 or fail("key $opt{key}");
	if ($opt{versions}) {
		Net::SSLeay::CTX_set_min_proto_version($ctx, $VERSION{ $opt{versions}[0] });
		Net::SSLeay::CTX_set_max_proto_version($ctx, $VERSION{ $opt{versions}[1] });
	}
	Net::SSLeay::CTX_set_cipher_list($ctx, $opt{ciphers}) == 1 or fail("ciphers $opt{ciphers}") if $opt{ciphers};
	Net::SSLeay::CTX_set_num_tickets($ctx, $opt{tickets}) if defined $opt{tickets};
	Net::SSLeay::CTX_set_session_id_context($ctx, 'sink', 4);
	if ($opt{client_ca}) {
		Net::SSLeay::CTX_load_verify_locations($ctx, $opt{client_ca}, '') == 1 or fail("authority $opt{client_ca}");
		Net::SSLeay::CTX_set_verify($ctx,
			Net::SSLeay::VERIFY_PEER() | Net::SSLeay::VERIFY_FAIL_IF_NO_PEER_CERT(), undef);
	} elsif ($opt{ask}) {
		Net::SSLeay::CTX_set_verify($ctx, Net::SSLeay::VERIFY_PEER(), sub { 1 });
	}
	return $ctx;
}

sub fail { die "sink: $_[0]: " . Net::SSLeay::ERR_error_string(Net::SSLeay::ERR_get_error()) . "\n" }

sub new
{
	my ($class, $ctx) = @_;
	my $self = bless { ssl => Net::SSLeay::new($ctx), up => 0, ended => 0 }, $class;

	@$self{qw(in out)} = map { Net::SSLeay::BIO_new(Net::SSLeay::BIO_s_mem()) } 1, 2;
	Net::SSLeay::set_bio($self->{ssl}, $self->{in}, $self->{out});
	Net::SSLeay::set_accept_state($self->{ssl});
	return $self;
}

sub feed { my ($self, $octets) = @_; Net::SSLeay::BIO_write($self->{in}, $octets); return }

sub take
{
	my ($self) = @_;
	my $octets = '';

	$octets .= Net::SSLeay::BIO_read($self->{out}) while Net::SSLeay::BIO_pending($self->{out}) > 0;
	return $octets;
}

# After a call that returned $rv <= 0: 0 needs more, -1 over.
sub not_done
{
	my ($self, $rv) = @_;
	my $error = Net::SSLeay::get_error($self->{ssl}, $rv);

	return 0 if $error == Net::SSLeay::ERROR_WANT_READ();
	$self->{ended} = 1 if $error == Net::SSLeay::ERROR_ZERO_RETURN();
	my $words = Net::SSLeay::ERR_error_string(Net::SSLeay::ERR_get_error());
	$self->{error} = $self->{ended} ? 'goodbye' : $words =~ s/.*://r;
	return -1;
}

sub handshake
{
	my ($self) = @_;

	Net::SSLeay::ERR_clear_error();
	my $rv = Net::SSLeay::do_handshake($self->{ssl});
	return $self->not_done($rv) if $rv != 1;
	return $self->{up} = 1;
}

sub read
{
	my ($self) = @_;
	my $all = '';

	while (1) {
		Net::SSLeay::ERR_clear_error();
		my ($octets, $rv) = Net::SSLeay::read($self->{ssl}, 65536);
		if (!defined $octets || $rv <= 0) {
			$self->not_done($rv);
			return $all;
		}
		$all .= $octets;
	}
}

# Records hold at most 16 KiB; one for each write.
sub write { my ($self, $text) = @_; Net::SSLeay::write($self->{ssl}, $text) if $text ne ''; return }
sub goodbye { my ($self) = @_; Net::SSLeay::shutdown($self->{ssl}) if $self->{up}; return }

sub is_up { return $_[0]{up} }
sub error { return $_[0]{error} }
sub got_goodbye { return $_[0]{ended} }

# "TLSv1.3 new name=mail.example cert=HEX": what came of the handshake.
sub describe
{
	my ($self) = @_;
	my $ssl = $self->{ssl};
	my $name = Net::SSLeay::get_servername($ssl);
	my $cert = Net::SSLeay::get_peer_certificate($ssl);
	my $words = Net::SSLeay::get_version($ssl) . ' ' . (Net::SSLeay::session_reused($ssl) ? 'resumed' : 'new');

	$words .= " name=$name" if defined $name;
	$words .= ' cert=' . lc Net::SSLeay::X509_get_fingerprint($cert, 'sha256') =~ s/://gr if $cert;
	return $words;
}

sub DESTROY { my ($self) = @_; Net::SSLeay::free($self->{ssl}); return }

1;
