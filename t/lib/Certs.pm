# Certs - certificates for tests, good ones and bad ones, made by the openssl program.
#
#   my $certs = Certs->new;                         # a folder with an authority in it
#   my ($cert, $key) = $certs->make('server');      # for localhost, 127.0.0.1 and ::1
#   my ($cert, $key) = $certs->make('old', from => '200101000000Z', to => '200201000000Z');
#   $certs->ca                                      # the authority's file
#   Certs::pin($cert), Certs::fingerprint($cert)    # hexadecimal SHA-256 of the public key, of the certificate
#
# Files can be read by everybody: the servers that use them have given up root.
package Certs;
use strict;
use warnings;
use TestUtil;

my $EXTENSIONS = "basicConstraints=CA:FALSE\nsubjectAltName=%s\n";

sub new
{
	my ($class) = @_;
	my $self = bless { dir => temp_dir() }, $class;

	$self->authority('ca');
	return $self;
}

sub dir { return "$_[0]{dir}" }
sub ca { return "$_[0]{dir}/" . ($_[1] // 'ca') . '.pem' }

# Another authority, by name.
sub authority
{
	my ($self, $name) = @_;
	my $dir = $self->{dir};

	openssl(qw(req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj), "/CN=test $name",
		'-keyout', "$dir/$name.key", '-out', "$dir/$name.pem");
	write_file("$dir/$name.index", '');
	write_file("$dir/$name.cnf", <<"CNF");
[ca]
default_ca = it
[it]
database = $dir/$name.index
new_certs_dir = $dir
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
CNF
	return $self->ca($name);
}

# A certificate and its key. %opt: names (of subjectAltName, as openssl writes them), type (ec or rsa), ca (an
# authority's name, or "self"), from and to (YYMMDDHHMMSSZ).
sub make
{
	my ($self, $name, %opt) = @_;
	my $dir = $self->{dir};
	my $names = $opt{names} // 'DNS:localhost,IP:127.0.0.1,IP:::1';
	my @new = ($opt{type} // 'ec') eq 'rsa' ? qw(-newkey rsa:2048) : qw(-newkey ec -pkeyopt ec_paramgen_curve:P-256);
	my ($cert, $key) = ("$dir/$name.pem", "$dir/$name.key");

	if (($opt{ca} // '') eq 'self') {
		openssl(qw(req -x509 -nodes -days 30), @new, '-subj', "/CN=$name", '-addext', "subjectAltName=$names",
			'-keyout', $key, '-out', $cert);
	} else {
		my $ca = $opt{ca} // 'ca';
		write_file("$dir/$name.ext", sprintf $EXTENSIONS, $names);
		openssl(qw(req -nodes), @new, '-subj', "/CN=$name", '-keyout', $key, '-out', "$dir/$name.csr");
		openssl(qw(ca -batch -notext -config), "$dir/$ca.cnf", '-cert', "$dir/$ca.pem", '-keyfile', "$dir/$ca.key",
			'-in', "$dir/$name.csr", '-out', $cert, '-extfile', "$dir/$name.ext",
			$opt{from} ? ('-startdate', $opt{from}) : (), $opt{to} ? ('-enddate', $opt{to}) : ('-days', 30));
	}
	chmod 0644, $cert, $key;
	return ($cert, $key);
}

sub openssl
{
	my (@args) = @_;
	my $out = temp_dir();
	my $pid = fork // die "fork: $!";

	if (!$pid) {
		open STDOUT, '>', "$out/out";
		open STDERR, '>&', \*STDOUT;
		exec 'openssl', @args or POSIX::_exit(127);
	}
	local $?;
	waitpid $pid, 0;
	die "openssl @args:\n" . read_file("$out/out") if $?;
	return;
}

sub pin
{
	my ($cert) = @_;
	my ($sum) = `openssl x509 -in $cert -noout -pubkey | openssl pkey -pubin -outform DER | openssl sha256` =~ /([0-9a-f]{64})/;

	return $sum;
}

sub fingerprint
{
	my ($cert) = @_;

	return lc(`openssl x509 -in $cert -noout -fingerprint -sha256` =~ s/.*=|[:\n]//gr);
}

1;
