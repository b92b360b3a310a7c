# AUTH towards the back-end: who we are, and a password that nobody else gets to see.
use strict;
use warnings;
use MIME::Base64;
use SmtpSink;
use Test::More;
use TestProxy;
use TestUtil;

my ($user, $password) = ('postern', "s3cret \xc3\xa4");
my @kept; # folders, until the end
my $plain = 'AUTH PLAIN ' . encode_base64("\0$user\0$password", '');

# A back-end with such words and answers, and a proxy before it. %opt: caps, unknown (answers to AUTH and what
# follows it), mode and text of the password file, options.
sub setup
{
	my (%opt) = @_;
	my $sink = SmtpSink->start(caps => [ 'PIPELINING', '8BITMIME', @{ $opt{caps} // ['AUTH PLAIN LOGIN'] } ],
		unknown => $opt{unknown} // '235 2.7.0 welcome');
	my $dir = temp_dir();
	push @kept, $dir;
	write_file("$dir/password", $opt{text} // "$password\n", $opt{mode} // 0600);
	chown +(getpwnam 'nobody')[2, 3], "$dir", "$dir/password" if is_root();
	my $proxy = TestProxy->start(<<"CONF", no_wait => $opt{no_wait});
workers 1
listener front { listen 127.0.0.1:0; backend inner }
backend inner {
    hosts @{[ $sink->addr ]}
    auth_user @{[ $opt{user} // $user ]}
    auth_password_file @{[ $opt{file} // "$dir/password" ]}
    @{[ $opt{options} // 'auth_plaintext yes' ]}
}
CONF
	return ($proxy, $sink);
}

subtest 'PLAIN' => sub {
	my ($proxy, $sink) = setup();
	is $proxy->client->send_message, 250, 'mail passes';
	my @said = $sink->commands((wait_until { $sink->txn(0) })->{conn});
	is $said[1], $plain, 'name and password stand in one line behind EHLO';
	like $said[2], qr/^MAIL /, 'and then comes the mail';
	unlike $proxy->log, qr/s3cret|\Q@{[ encode_base64("\0$user\0$password", '') ]}\E/,
	    'the password is not in the log';
};

subtest 'LOGIN where there is no PLAIN' => sub {
	my ($proxy, $sink) = setup(caps => ['AUTH LOGIN CRAM-MD5'],
		unknown => [ '334 VXNlcm5hbWU6', '334 UGFzc3dvcmQ6', '235 ok' ]);
	is $proxy->client->send_message, 250, 'mail passes';
	is_deeply [ ($sink->commands((wait_until { $sink->txn(0) })->{conn}))[1 .. 3] ],
	    [ 'AUTH LOGIN', encode_base64($user, ''), encode_base64($password, '') ],
	    'name and password are said when they are asked for';
};

subtest 'the old way of offering it' => sub {
	my ($proxy, $sink) = setup(caps => ['AUTH=LOGIN PLAIN']);
	is $proxy->client->send_message, 250, 'AUTH= is understood';
};

# RFC 4954 4: AUTH with its initial response is no longer than 512 octets, CR LF among them.
for my $len (370, 371, 500) {
	my ($name, $secret) = ('u' x ($len - 100), 'p' x 100);
	my $base64 = encode_base64("\0$name\0$secret", '');
	my $fits = length("AUTH PLAIN $base64\r\n") <= 512;

	subtest "PLAIN, $len octets of name and password" => sub {
		my ($proxy, $sink) = setup(user => $name, text => "$secret\n", unknown => $fits ? '235 ok' : [ '334 ', '235 ok' ]);
		is $proxy->client->send_message, 250, 'mail passes';
		my @said = $sink->commands((wait_until { $sink->txn(0) })->{conn});
		is_deeply [ grep { !/^(?:EHLO|MAIL|RCPT|DATA|QUIT)/ } @said ],
		    $fits ? ["AUTH PLAIN $base64"] : [ 'AUTH PLAIN', $base64 ], $fits ? 'in one line' : 'the response comes when it is asked for';
		unlike $proxy->log, qr/p{100}|\Q$base64\E/, 'the password is not in the log';
	};
}

# What the host does, what the front hears, what the log says.
my @refusals = (
	[ 'a wrong password', { unknown => '535 5.7.8 no, s3cretly' }, qr/AUTH was answered: 535/ ],
	[ 'a passing fault', { unknown => '454 4.7.0 later' }, qr/AUTH was answered: 454/ ],
	[ 'a question instead of a yes', { unknown => '334 what' }, qr/AUTH was answered: 334/ ],
	[ 'a connection that ends', { unknown => 'close' }, qr/closed the connection before the reply to AUTH/ ],
	[ 'no AUTH', { caps => ['SIZE'] }, qr/neither AUTH PLAIN nor AUTH LOGIN is offered/ ],
	[ 'no mechanism of ours', { caps => ['AUTH CRAM-MD5 GSSAPI'] }, qr/neither AUTH PLAIN nor AUTH LOGIN/ ],
	[ 'a LOGIN that is refused at the name', { caps => ['AUTH LOGIN'], unknown => [ '334 a', '501 no' ] },
		qr/AUTH was answered: 501/ ],
	[ 'a host without TLS', { options => 'tls opportunistic' }, qr/would send the password in clear/ ],
);
for my $case (@refusals) {
	my ($name, $opt, $log) = @$case;
	subtest $name => sub {
		my ($proxy, $sink) = setup(%$opt);
		my $reply = $proxy->client->send_message;
		is $reply, 451, 'the front keeps the mail';
		like $reply->text, qr/^4\.4\.1 the next hop cannot be reached/, 'and learns nothing of it';
		ok $proxy->wait_log($log), 'the log says why';
		is $sink->count, 0, 'nothing is delivered';
		ok !(grep { /^MAIL/ } $sink->commands), 'no mail is begun';
		ok !(grep { /PLAIN|cG9z/ } $sink->commands), 'the password was not said' if $name =~ /without TLS/;
	};
}

# The file, and why it is of no use.
my @files = (
	[ 'that everybody can read', { mode => 0644 }, qr/can be read by everybody/ ],
	[ 'that a group can write', { mode => 0660 }, qr/written by others/ ],
	[ 'that is empty', { text => "\n" }, qr/holds no password/ ],
	[ 'that is too long', { text => 'x' x 501 }, qr/more than 500 octets/ ],
	[ 'that holds a NUL', { text => "a\0b\n" }, qr/holds a NUL octet/ ],
	[ 'that is not there', { file => '/nonexistent/password' }, qr{/nonexistent/password: No such file} ],
	[ 'that is a folder', { file => '/tmp' }, qr{/tmp is not a regular file} ],
	[ 'of systemd without systemd', { file => 'credential:x' }, qr/CREDENTIALS_DIRECTORY is not set/ ],
);
for my $case (@files) {
	my ($name, $opt, $why) = @$case;
	my ($proxy) = setup(%$opt, no_wait => 1);
	ok((wait_until { !$proxy->is_running } 20), "a file $name stops the start");
	like $proxy->log, $why, 'and the log says what is wrong';
	my $said = `@{[ $proxy->program ]} -t -c @{[ $proxy->conf_file ]} 2>&1`;
	like $said, $why, 'as postern -t does';
}

subtest 'a credential of systemd' => sub {
	my $dir = temp_dir();
	write_file("$dir/backend", "$password\n", 0400);
	chown +(getpwnam 'nobody')[2, 3], "$dir", "$dir/backend" if is_root();
	local $ENV{CREDENTIALS_DIRECTORY} = "$dir";
	my ($proxy, $sink) = setup(file => 'credential:backend');
	is $proxy->client->send_message, 250, 'is read';
	is((($sink->commands(1))[1]), $plain, 'and said');
};

done_testing;
