#!/usr/bin/perl
# postern -t looks at what a start, or the first mail, would stumble over: files and rights with the user's eyes,
# addresses, back-ends. It says all it finds, each with its place, ends soon whatever hangs, and leaves nothing.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Certs;
use File::Find ();
use File::Spec;
use IO::Socket::INET;
use IO::Socket::UNIX;
use SmtpSink;
use POSIX 'strftime';
use Test::More;
use TestProxy;
use TestUtil;
use Time::HiRes 'time';

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR};
$ENV{RES_OPTIONS} = 'timeout:1 attempts:1'; # for a machine whose resolver is silent

my $sink = SmtpSink->start;
my $certs = Certs->new;
my ($cert, $key) = $certs->make('server', to => '391231000000Z');
my $home = temp_dir();	# the user must reach the helper
our $program = File::Spec->rel2abs(TestProxy::program(bless { dir => $home }, 'TestProxy'));
chmod 0640, $key;
chown 0, (getpwnam 'nobody')[3], $key if is_root();

# Runs -t; ours is DIR in what it says. The configuration gets a user and a spool folder, in lines behind it.
# $opt: prepare (gets the folder), raw (add nothing), env, wrap.
sub check
{
	my ($conf, %opt) = @_;
	my $dir = $opt{dir} // temp_dir();
	my $owner = is_root() ? (getpwnam 'nobody')[2] : $>;

	$conf =~ s/%d/$dir/g;
	unless ($opt{raw}) {
		mkdir "$dir/spool", 0700;
		chown $owner, -1, "$dir/spool";
		$conf .= "spool { directory $dir/spool; min_free 0 }\n" unless $conf =~ /^spool/m;
		$conf .= "user nobody\n" if is_root() && $conf !~ /^user/m;
	}
	write_file("$dir/p", $conf, 0644);
	$opt{prepare}->($dir) if $opt{prepare};
	local %ENV = (%ENV, %{ $opt{env} // {} });
	my $before = tree($dir);
	my $from = time;
	my $out = `cd '$dir' && @{[ $opt{wrap} // '' ]} '$program' -t -c p 2>&1 </dev/null`;
	my $status = $? >> 8;
	my $took = time - $from;
	is(tree($dir), $before, 'nothing was made or changed') unless $opt{dir};
	return ($out =~ s/\Q$dir\E/DIR/gr, $status, $took, $dir);
}

# Names, modes and owners below a folder.
sub tree
{
	my ($dir) = @_;
	my @names;

	File::Find::find({ no_chdir => 1, wanted => sub { push @names, join ' ', $_, (lstat)[2, 4, 5] } }, $dir);
	return join "\n", sort @names;
}

sub front { return "listener front { listen 127.0.0.1:0; backend inner; $_[0] }\n" }
my $auth = SmtpSink->start(caps => ['AUTH PLAIN LOGIN']);
sub login { return "backend inner { hosts @{[ $auth->addr ]}; auth_plaintext yes; auth_user u; auth_password_file $_[0] }\n" }
sub inner { return "backend inner { hosts @{[ $sink->addr ]}; $_[0] }\n" }
my $good = front('') . inner('');
my $whose = is_root() ? 'user nobody' : "user id $>";

subtest 'a good one' => sub {
	my ($out, $status, $took) = check($good);

	is($out, "p: the configuration is good\n", 'is told in one line');
	is($status, 0, 'with status 0');
	cmp_ok($took, '<', 2.5 * $TestUtil::PATIENCE, 'at once');
	my $dir = temp_dir();
	($out, $status) = check($good, raw => 1, prepare => sub {
		my ($dir) = @_;
		chmod 0755, $dir;
		chown((getpwnam 'nobody')[2], -1, $dir) if is_root();
		write_file("$dir/p", "$good" . "spool { directory $dir/new; min_free 0 }\n" . (is_root() ? "user nobody\n" : ''), 0644);
	});
	is($out, "p: the configuration is good\n", 'a spool folder that the start will make is no mistake');
};

# name, configuration, %opt of check(), messages; root: only as root
my @cases = (
	# the user
	[ 'root without a user', $good, { raw => 1, root => 1 }, 'p: refusing to run as root: name a user to become (try user postern)' ],
	[ 'a user that is not there', "${good}user nosuchuser\n", { root => 1 },
		'p:3:1: user: there is no user "nosuchuser" (try adduser --system --group nosuchuser)' ],
	[ 'root as the user', "${good}user root\n", { root => 1 }, 'p:3:1: refusing to run as root: user must be another one (try user postern)' ],
	[ 'a group that is not there', "${good}user nobody\ngroup nosuchgroup\n", { root => 1 },
		q(p:4:1: group: there is no group "nosuchgroup" (try addgroup --system nosuchgroup, or no group: then it is the user's own)) ],
	[ 'a look with other eyes', "${good}user daemon\n", { not_root => 1 },
		qr/^p:3:1: warning: user: what follows is how user id \d+ sees it, not daemon \(try sudo postern -t\)$/ ],

	# folders and files
	[ 'a configuration that only root can read', $good, { root => 1, prepare => sub { chmod 0600, "$_[0]/p" } },
		'p: warning: user nobody cannot read p: Permission denied, so a reload would fail (try chgrp to its group, and chmod 0640)' ],
	(-x '/usr/bin/mdb_load' ? [ 'a table that only root can read', "${good}rule { sender lmdb:%d/t; chain none }\n",
		{ root => 1, prepare => sub { system("printf 'a\@b\\nx\\n' | mdb_load -n -T '$_[0]/t'; rm -f '$_[0]/t-lock'"); chmod 0600, "$_[0]/t" } },
		'p: user nobody cannot read DIR/t: Permission denied, so its rules would answer 451 (try chgrp to its group, and chmod 0640)' ] : ()),
	[ 'a spool without its parent', "${good}spool { directory %d/no/spool }\n", {},
		'p:3:9: directory: the folder DIR/no is not there (try mkdir, and chown to the user)' ],
	[ 'a spool that others can read', "${good}spool { directory %d/sp }\n", { prepare => sub { spool($_[0], 0755) } },
		'p:3:9: spool directory: DIR/sp has mode 0755, mail needs 0700: chmod 0700 DIR/sp' ],
	[ 'a spool of root', "${good}spool { directory %d/sp }\n", { root => 1, prepare => sub { mkdir "$_[0]/sp", 0700 } },
		qr/^p:3:9: spool directory: DIR\/sp belongs to user id 0 and not to ours, (\d+): chown \1 DIR\/sp$/ ],
	[ 'a spool that is a file', "${good}spool { directory %d/sp }\n", { prepare => sub { write_file("$_[0]/sp", '') } },
		'p:3:9: spool directory: DIR/sp is not a folder' ],
	[ 'a quarantine without its parent', "${good}quarantine { directory %d/no/q }\n", {},
		'p:3:14: directory: the folder DIR/no is not there (try mkdir, and chown to the user)' ],
	[ 'a quarantine that others can read', "${good}quarantine { directory %d/sp }\n", { prepare => sub { spool($_[0], 0750) } },
		'p:3:14: quarantine directory: DIR/sp has mode 0750, mail needs 0700: chmod 0700 DIR/sp' ],
	[ 'a quarantine of root', "${good}quarantine { directory %d/sp }\n", { root => 1, prepare => sub { mkdir "$_[0]/sp", 0700 } },
		qr/^p:3:14: quarantine directory: DIR\/sp belongs to user id 0 and not to ours, (\d+): chown \1 DIR\/sp$/ ],
	[ 'a spool without room', "${good}spool { directory %d/spool; min_free 1024T }\n", {},
		qr/^p:3:\d+: warning: min_free: the spool has too little free space, so no mail would be taken$/ ],
	[ 'a log in no folder', "${good}log { to %d/no/log }\n", {}, 'p:3:7: to: the folder DIR/no is not there (try mkdir, and chown to the user)' ],
	[ 'a log that is a folder', "${good}log { to %d/spool }\n", {}, 'p:3:7: to: DIR/spool is a folder (try DIR/spool/postern.log)' ],
	[ 'a log that is a FIFO', "${good}log { to %d/log }\n", { prepare => sub { POSIX::mkfifo("$_[0]/log", 0666); chmod 0666, "$_[0]/log" } },
		'p:3:7: warning: to: DIR/log is a FIFO: Postern starts only while somebody reads it, and loses lines that are not read in time' ],
	[ 'a log of root', "${good}log { to %d/log }\n", { root => 1, prepare => sub { write_file("$_[0]/log", '', 0644) } },
		'p:3:7: to: user nobody cannot write DIR/log: Permission denied (try chown)' ],
	[ 'a log in a folder of root', "${good}log { to %d/log }\n", { root => 1 },
		'p:3:7: to: user nobody cannot make files in DIR: Permission denied' ],
	[ 'a pid file in no folder', "${good}pid_file %d/no/pid\n", {}, 'p:3:1: pid_file: the folder DIR/no is not there (try mkdir, and chown to the user)' ],
	[ 'a pid file that is a folder', "${good}pid_file %d/spool\n", {}, 'p:3:1: pid_file: DIR/spool is not a regular file' ],
	[ 'a maildir in no folder', front('') . "backend inner { maildir %d/no/mail }\n", {},
		'p:2:17: maildir: the folder DIR/no is not there (try mkdir, and chown to the user)' ],
	[ 'a maildir in a folder of root', front('') . "backend inner { maildir %d/mail }\n", { root => 1 },
		'p:2:17: maildir: user nobody cannot make files in DIR: Permission denied' ],
	[ 'a maildir of root', front('') . "backend inner { maildir %d/mail }\n", { root => 1, prepare => sub { mkdir "$_[0]/mail" } },
		'p:2:17: maildir: user nobody cannot make files in DIR/mail: Permission denied' ],
	[ 'a maildir that is a file', front('') . "backend inner { maildir %d/mail }\n", { prepare => sub { write_file("$_[0]/mail", '') } },
		'p:2:17: maildir: DIR/mail is not a folder' ],

	# programs of filters
	[ 'a program that is not there', "${good}exec f { command %d/no/program %f }\ndefault_chain f\n", {}, 'p:3:18: command: DIR/no/program: No such file or directory' ],
	[ 'a program that is a folder', "${good}exec f { command %d/spool %f }\ndefault_chain f\n", {}, 'p:3:18: command: DIR/spool is no program, but a folder' ],
	[ 'a program without the right', "${good}exec f { command %d/run %f }\ndefault_chain f\n", { prepare => sub { write_file("$_[0]/run", "#!/bin/sh\n", 0644) } },
		"p:3:18: command: $whose cannot run DIR/run: Permission denied (try chmod a+rx)" ],
	[ 'a program of root alone', "${good}exec f { command %d/run %f }\ndefault_chain f\n", { root => 1, prepare => sub { write_file("$_[0]/run", "#!/bin/sh\n", 0700) } },
		"p:3:18: command: $whose cannot run DIR/run: Permission denied (try chmod a+rx)" ],
	[ 'a program that anybody may change', "${good}exec f { command %d/run %f }\ndefault_chain f\n", { prepare => sub { write_file("$_[0]/run", "#!/bin/sh\n", 0755); chmod 0757, "$_[0]/run" } },
		'p:3:18: command: anybody may write to DIR/run (try chmod o-w)' ],
	[ 'a program in a folder that is open to all', "${good}exec f { command %d/o/run %f }\ndefault_chain f\n",
		{ prepare => sub { mkdir "$_[0]/o"; write_file("$_[0]/o/run", "#!/bin/sh\n", 0755); chmod 0777, "$_[0]/o" } },
		'p:3:18: command: anybody may put another program into DIR/o (try chmod o-w)' ],

	(-e '/run/postern' ? () : [ 'a folder that systemd makes', "listener front { listen unix:/run/postern/in; backend inner }\n" . inner(''), {},
		'p:1:25: warning: listen: the folder /run/postern is not there (systemd makes it for our unit; for any other start it must be made)' ]),

	# certificates and passwords
	[ 'a certificate that is not there', front('tls { certificate %d/c.pem }') . inner(''), {},
		'p:1:71: certificate DIR/c.pem: No such file or directory' ],
	[ 'certificate and key exchanged', front("tls { certificate $key; key $cert }") . inner(''), {},
		"p:1:71: certificate $key: it holds none in PEM form" ],
	[ 'a key that only root can read', front("tls { certificate $cert; key %d/k.pem }") . inner(''),
		{ root => 1, prepare => sub { write_file("$_[0]/k.pem", read_file($key), 0600) } },
		sub { 'p:1:' . (77 + length $cert) . ': key DIR/k.pem: Permission denied (user nobody may not read it: try chgrp and chmod 0640)' } ],
	[ 'a key in a folder of root', front("tls { certificate $cert; key %d/private/k.pem }") . inner(''),
		{ root => 1, prepare => sub { mkdir "$_[0]/private", 0700; write_file("$_[0]/private/k.pem", read_file($key), 0644) } },
		sub { 'p:1:' . (77 + length $cert) . ': key DIR/private/k.pem: Permission denied (user nobody may not enter DIR/private)' } ],
	[ 'a key that everybody can read', front("tls { certificate $cert; key %d/k.pem }") . inner(''),
		{ prepare => sub { write_file("$_[0]/k.pem", read_file($key), 0644) } },
		sub { 'p:1:' . (77 + length $cert) . ': warning: key: DIR/k.pem can be read by everybody (mode 0644; try chmod 0640 with our group)' } ],
	[ 'a certificate for another name', "hostname mx.example.net\n" . front("tls { certificate $cert; key $key }") . inner(''), {},
		"p:2:71: warning: certificate: $cert is not for our hostname mx.example.net (it is for localhost)" ],
	[ 'authorities that are none', front('') . inner('tls verify; tls_ca %d/ca.pem'), { prepare => sub { write_file("$_[0]/ca.pem", "none\n", 0644) } },
		qr/^p:2:\d+: file of authorities DIR\/ca\.pem: / ],
	[ 'a password that everybody can read', front('') . login('%d/pw'),
		{ prepare => sub { write_file("$_[0]/pw", "secret\n", 0644) } },
		qr/^p:2:\d+: auth_password_file: DIR\/pw can be read by everybody or written by others \(mode 0644; try chmod 0600, or 0640 with our group\)$/ ],
	[ 'a password that only root can read', front('') . login('%d/pw'),
		{ root => 1, prepare => sub { write_file("$_[0]/pw", "secret\n", 0600) } },
		qr/^p:2:\d+: auth_password_file: DIR\/pw: Permission denied$/ ],
	[ 'a credential, from a shell', front('') . login('credential:back'),
		{ env => { CREDENTIALS_DIRECTORY => undef } },
		qr/^p:2:\d+: warning: auth_password_file: credential:back cannot be looked at from here: CREDENTIALS_DIRECTORY is not set; systemd sets it for a unit with LoadCredential=back:FILE$/ ],

	# addresses
	[ 'an address of another machine', "listener front { listen 192.0.2.55:10025; backend inner; clients any }\n" . inner(''), {},
		'p:1:25: listen: 192.0.2.55:10025: this machine has no such address (ip address shows those it has)' ],
	[ 'a listener by a name that is none', "listener front { listen nosuch.invalid:10025; backend inner; clients any }\n" . inner(''), {},
		qr/^p:1:25: listen: the name nosuch\.invalid has no address: / ],
	[ 'a socket in no folder', "listener front { listen unix:%d/no/in; backend inner }\n" . inner(''), {},
		'p:1:25: listen: the folder DIR/no is not there (try mkdir, and chown to the user)' ],
	[ 'a file in the way of a socket', "listener front { listen unix:%d/in/s; backend inner }\n" . inner(''),
		{ prepare => sub { inbox($_[0]); write_file("$_[0]/in/s", '') } },
		'p:1:25: listen: DIR/in/s is there and is not a socket (remove it, or choose another path)' ],
	[ 'a socket in a folder of root', "listener front { listen unix:%d/in; backend inner }\n" . inner(''), { root => 1 },
		'p:1:25: warning: listen: user nobody cannot make files in DIR, so it can neither remove this socket at a stop nor make it at a reload' ],
	[ 'a socket for a group that is not there', "listener front { listen unix:%d/in/s; backend inner; socket_group nosuchgroup }\n" . inner(''),
		{ prepare => \&inbox }, qr/^p:1:\d+: socket_group: there is no group "nosuchgroup" \(getent group shows those there are\)$/ ],
	[ 'a socket for a user that is not there', "listener front { listen unix:%d/in/s; backend inner; socket_owner nosuchuser }\n" . inner(''),
		{ prepare => \&inbox }, qr/^p:1:\d+: socket_owner: there is no user "nosuchuser" \(getent passwd shows those there are\)$/ ],
	[ 'a low port without root', "listener front { listen 127.0.0.1:1; backend inner }\n" . inner(''), { not_root => 1 },
		'p:1:25: warning: listen: 127.0.0.1:1: ports below 1024 need root or CAP_NET_BIND_SERVICE (try another port, or start as root)' ],

	# what belongs together
	[ 'a back-end that nobody uses', "${good}backend other { discard yes }\n", {}, 'p:3:1: warning: backend other is used by no listener' ],
	[ 'a filter in no chain', "${good}dummy slow { }\n", {}, 'p:3:1: warning: dummy slow stands in no chain (try default_chain slow)' ],
	[ 'a filter for the gate in none', "${good}always never { at connect }\n", {}, 'p:3:1: warning: always never stands in no gate (try gate never in a listener)' ],
	[ 'a service that nobody listens at', "${good}rspamd spam { socket 127.0.0.1:1; reject_action reject }\ndefault_chain spam\n", {},
		'p:3:22: warning: socket: 127.0.0.1:1: connection refused (is rspamd started?)' ],
	[ 'a usual place of a service where none is', "${good}spamd spam { }\ndefault_chain spam\n", {},
		'p:3:1: warning: socket: 127.0.0.1:783: connection refused (is spamd started?)' ],
	[ 'a socket of a service that the user may not reach', "${good}clamd virus { socket unix:%d/shut/ctl; config_file none }\ndefault_chain virus\n",
		{ root => 1, prepare => sub { mkdir "$_[0]/shut", 0700 } },
		'p:3:22: warning: socket: unix:DIR/shut/ctl: permission denied, for user nobody (put it into the group that may, or try another mode of the socket)' ],
	[ 'a rule behind one that takes all', "${good}rule { chain none }\nrule { recipient \@a.example; chain none }\n", {},
		'p:4:1: warning: this rule never matches: the one at p:3:1 takes all before it' ],
	[ 'a rule behind one with the same words', "${good}rule { recipient \@b.example \@A.example; chain none }\nrule { sender <>; recipient \@a.example; chain none }\n", {},
		'p:4:1: warning: this rule never matches: the one at p:3:1 takes all before it' ],
	[ 'filters for those of a rule alone', "${good}dummy slow { timeout 1s }\nrule { recipient \@a.example; chain slow }\n", {},
		'p: warning: default_chain is not set: recipients that no rule matches get no filter (say default_chain none if that is meant)' ],
	[ 'a condition that takes back another one', "${good}dummy d { only_sender \@A.example; skip_sender <> \@a.example }\ndefault_chain d\n", {},
		'p:3:11: warning: only_sender: all of it stands in skip_sender too, so dummy d never looks at a message' ],
	[ 'a condition against all clients', "${good}dummy d { skip_client any }\ndefault_chain d\n", {},
		'p:3:11: warning: skip_client: any is every client, so dummy d never looks at a message' ],
	[ 'sizes that no message has', "${good}dummy d { only_larger 1M; only_smaller 64K }\ndefault_chain d\n", {},
		'p:3:27: warning: only_smaller: no message is that small and larger than only_larger, so dummy d never looks at one' ],
	[ 'TLS only, where there is none', "${good}dummy d { only_tls yes }\ndefault_chain d\n", {},
		'p:3:11: warning: only_tls: no listener has TLS, so dummy d never looks at a message' ],
	[ 'TLS and no TLS', "${good}dummy d { only_tls yes no }\ndefault_chain d\n", {},
		'p:3:11: warning: only_tls: yes and no together are every message' ],
	[ 'a day that no calendar has', "${good}dummy d { only_time \"* * 31 2 *\" }\ndefault_chain d\n", {},
		'p:3:21: warning: only_time: "* * 31 2 *" never comes' ],
	[ 'TLS with a maildir', front('') . "backend inner { discard yes; tls verify }\n", {}, 'p:2:30: warning: tls has no effect with discard' ],
	[ 'one host to balance', front('') . inner('balance least'), {}, qr/^p:2:\d+: warning: balance has no effect with one host$/ ],
	[ 'more idle connections than there can be', front('') . inner('max_connections 5; max_idle 10'), {},
		qr/^p:2:\d+: warning: max_idle: 10 connections cannot be idle where max_connections is 5$/ ],
	[ 'early_hold with envelope late', front('envelope late; early_hold 1s') . inner(''), {},
		'p:1:68: warning: early_hold has no effect with envelope late' ],
	[ 'more connections of a listener than of all', front('max_connections 20') . inner('') . "max_connections 10\n", {},
		'p:1:53: warning: max_connections: 20 cannot be reached, the top level allows 10' ],
	[ 'more connections of a client than of the listener', front('max_connections 5; max_per_client 20') . inner(''), {},
		'p:1:72: warning: max_per_client: 20 cannot be reached, max_connections is 5' ],
	[ 'a patience that the budget ends', front('budget 20s') . inner('connect_timeout 1m'), {},
		qr/^p:2:\d+: warning: connect_timeout: longer than the budget of listener front \(20s\), which ends it$/ ],
	[ 'less memory for all than for one', "${good}spool { directory %d/spool; min_free 0; inline 1M; inline_total 64K }\n", {},
		qr/^p:3:\d+: warning: inline_total is less than inline: a message of that size never stays in memory$/ ],
	[ 'more connections than descriptors', "${good}max_connections 1000\n", { wrap => "prlimit --nofile=200:200" },
		qr/^p:3:1: warning: max_connections: 1000 need (\d+) open files, the limit here is 200 \(try ulimit -Hn \1, or LimitNOFILE=\1 in the unit\)$/ ],
);

sub spool { mkdir "$_[0]/sp"; chmod $_[1], "$_[0]/sp"; chown +(getpwnam 'nobody')[2], -1, "$_[0]/sp" if is_root(); return }
sub inbox { mkdir "$_[0]/in", 0755; chown +(getpwnam 'nobody')[2], -1, "$_[0]/in" if is_root(); return }

for my $case (@cases) {
	my ($name, $conf, $opt, @messages) = @$case;

	next if ($opt->{root} && !is_root()) || ($opt->{not_root} && is_root());
	subtest $name => sub {
		local $ENV{CREDENTIALS_DIRECTORY};
		delete $ENV{CREDENTIALS_DIRECTORY};
		my ($out, $status) = check($conf, %$opt, env => {});
		my ($said, @more) = grep { !/^p: the configuration is good|: note: / } split /\n/, $out;
		my $wanted = ref $messages[0] eq 'CODE' ? $messages[0]->() : $messages[0];
		my $is_warning = "$wanted" =~ /warning: /;

		ref $wanted ? like($said // '', $wanted, 'is told') : is($said // '', $wanted, 'is told');
		is(join("\n", @more), '', 'and nothing else');
		is($status, $is_warning ? 0 : 78, $is_warning ? 'a warning leaves it good' : 'an error does not');
		like($out, qr/^p: the configuration is good, 1 warning$/m, 'which is counted') if $is_warning;
	};
}

subtest 'recipients that will be parted' => sub {
	my $note = 'p:1:1: note: listener front: recipients whose filters are not those of a message\'s first one get 452, '
	    . "and the front sends them in a transaction of their own\n";
	my @parting = (
		[ 'by a rule', "dummy d { }\nrule { recipient \@a.example; chain d }\ndefault_chain none\n", $note ],
		[ 'by a condition of a filter', "dummy d { only_recipient \@a.example }\ndefault_chain d\n", $note ],
		[ 'and not by a rule on senders', "dummy d { }\nrule { sender \@a.example; chain d }\ndefault_chain none\n", '' ],
	);

	for my $case (@parting) {
		my ($name, $conf, $said) = @$case;
		my ($out, $status) = check($good . $conf);

		is($out, "${said}p: the configuration is good\n", "$name: is told, and no mistake");
		is($status, 0, "$name: with status 0");
	}
};

subtest 'the limits of a clamd' => sub {
	my $off = 'AlertExceedsMax is off in DIR/clamd.conf: what clamd does not look at because of its limits counts as clean '
	    . '(try AlertExceedsMax yes)';
	my $encrypted = 'AlertEncrypted is off in DIR/clamd.conf: archives that clamd cannot open count as clean';
	my $alerts = "AlertExceedsMax yes\nAlertEncrypted true\n";
	my @limits = (
		[ '127.0.0.1:3310', "# ours\nStreamMaxLength 1M\nMaxFileSize 2048K\n",
			'StreamMaxLength in DIR/clamd.conf is 1M, and a message may have 50M: a larger one is what oversize says',
			'MaxFileSize in DIR/clamd.conf is 2M, and a message may have 50M: a larger one counts as clean', $off, $encrypted ],
		[ 'unix:%d/ctl', "StreamMaxLength 1M\nMaxScanSize 10M\n$alerts",
			'MaxScanSize in DIR/clamd.conf is 10M, and a message may have 50M: a larger one counts as a find' ],
		[ '[::1]:3310', "StreamMaxLength 0\nMaxFileSize 1G\n$alerts" ],
		[ 'localhost:3310', $alerts ],
		[ '127.0.0.1:3310', undef, 'DIR/clamd.conf: No such file or directory' ],
		[ '192.0.2.1:3310', undef ],
	);

	for my $case (@limits) {
		my ($socket, $text, @warnings) = @$case;
		my ($out, $status) = check("${good}clamd virus { socket $socket; config_file %d/clamd.conf }\ndefault_chain virus\n",
			prepare => sub { write_file("$_[0]/clamd.conf", $text, 0644) if defined $text });

		is_deeply([ map { /^p:3:\d+: warning: config_file: (.*)/ } split /\n/, $out ], \@warnings, "$socket: what is warned of");
		is($status, 0, "$socket: and no more");
	}
};

subtest 'certificates and the calendar' => sub {
	my ($old, $old_key) = $certs->make('old', from => '200101000000Z', to => '200201000000Z');
	my ($new, $new_key) = $certs->make('new', to => strftime('%y%m%d%H%M%SZ', gmtime(time + 10.5 * 86400)));
	my ($early, $early_key) = $certs->make('early', from => '400101000000Z', to => '410101000000Z');
	my @out;

	for ([ $old, $old_key ], [ $new, $new_key ], [ $early, $early_key ]) {
		my ($c, $k) = @$_;
		chmod 0640, $k;
		chown 0, (getpwnam 'nobody')[3], $k if is_root();
		my ($out, $status) = check(front("tls { certificate $c; key $k }") . inner(''));
		is($status, 0, 'a warning is no error');
		push @out, $out;
	}
	like($out[0], qr/^p:1:71: warning: certificate: \Q$old\E has expired \(on 2020-02-01\)$/m, 'one that has expired');
	like($out[1], qr/^p:1:71: warning: certificate: \Q$new\E expires in 10 days \(on \d{4}-\d\d-\d\d\)$/m, 'one that soon will');
	like($out[2], qr/^p:1:71: warning: certificate: \Q$early\E is not valid yet \(is the clock right\?\)$/m, 'one whose time has not come');
};

subtest 'all of it is told in one run' => sub {
	my ($out, $status) = check(
		"listener front { listen 192.0.2.55:10025 unix:%d/no/in; backend inner; clients any }\n"
		. "listener next { listen 127.0.0.1:0; backend kept; tls { certificate %d/a.pem %d/b.pem; client_ca %d/ca.pem; verify ask } }\n"
		. "backend inner { hosts 127.0.0.1:1 }\nbackend kept { maildir %d/no/mail }\nlog { to %d/no/log }\npid_file %d/no/pid\n");
	my @places = $out =~ /^p:(\d+:\d+): /mg;

	is("@places", '1:25 1:42 2:69 2:'.(69 + 7 + length '/tmp/pt-XXXXXX') . ' ' . join(' ', (split ' ', "@places")[4 .. 4]) . ' 3:23 4:16 5:7 6:1', 'in the order of the file')
	    or diag $out;
	is($status, 78, 'and one error is enough');
};

# ---- addresses in use ----------------------------------------------------------------------

subtest 'addresses that somebody has' => sub {
	my $taken = IO::Socket::INET->new(LocalAddr => '127.0.0.1:0', Listen => 1) or die;
	my $port = $taken->sockport;
	my ($out, $status) = check("listener front { listen 127.0.0.1:$port; backend inner }\n" . inner(''));
	my $by = is_root() ? qr/, by \S+ \(process $$\)/ : qr/(?:, by \S+ \(process $$\))?/;

	like($out, qr/^p:1:25: warning: listen: 127\.0\.0\.1:$port is in use already$by \(ss -ltnp and ss -lxp tell more\)$/m,
		'a port, and by whom');
	is($status, 0, 'is a warning');
	($out) = check("health { listen 127.0.0.1:$port }\nlistener front { listen 127.0.0.1:0; backend inner }\n" . inner(''));
	like($out, qr/^p:1:17: warning: listen: 127\.0\.0\.1:$port is in use already$by /m, 'the health port likewise');
	my $dir = temp_dir();
	inbox("$dir");
	my $unix = IO::Socket::UNIX->new(Local => "$dir/in/s", Listen => 5) or die;
	($out, $status) = check("listener front { listen unix:%d/in/s; backend inner }\n" . inner(''), dir => "$dir");
	like($out, qr/^p:1:25: warning: listen: unix:DIR\/in\/s is in use already, by \S+ \(process $$\) /m, 'a socket likewise');
	ok(-S "$dir/in/s", 'which is still there');
	close $unix;
	($out) = check("listener front { listen unix:%d/in/s; backend inner }\n" . inner(''), dir => "$dir");
	is($out, "p: the configuration is good\n", 'what a process that died has left is in nobody\'s way');
};

subtest 'addresses that our own postern has' => sub {
	my $proxy = TestProxy->start("listener front { listen 127.0.0.1:0 unix:%d/in; backend inner }\n" . inner('')
		. "pid_file %d/pid\n");
	my $addr = (grep { /^127/ } $proxy->log =~ /address=(\S+)/g)[0];
	my $conf = read_file($proxy->conf_file) =~ s/127\.0\.0\.1:0/$addr/r;
	my $run = sub { return `'@{[ $proxy->program ]}' -t -c $_[0] 2>&1 </dev/null` };

	write_file($proxy->conf_file, $conf, 0644);
	is($run->($proxy->conf_file), $proxy->conf_file . ": the configuration is good\n", 'are in nobody\'s way');
	if (is_root()) {
		my $said = `setpriv --reuid=1 --regid=1 --clear-groups '@{[ $proxy->program ]}' -t -c @{[ $proxy->conf_file ]} 2>&1 </dev/null`;
		like($said, qr/warning: user: what follows is how user id 1 sees it, not nobody/, 'another user looks');
		unlike($said, qr/in use already/, 'and they are in nobody\'s way for him, either');
	}
	my $other = write_file($proxy->dir . '/other.conf', $conf =~ s/^pid_file.*\n//mr, 0644);
	my @lines = split /\n/, $run->($other);
	is(scalar(grep { /warning: listen: \S+ is in use already, by postern \(process \d+\)/ } @lines), 2,
		'unless it runs with another configuration') or diag explain \@lines;
	is(scalar(grep { /warning: directory: a postern with another configuration \(process \d+\) has \S+; each needs one of its own/ } @lines),
		1, 'which may not have our spool, either');
	$proxy->stop;
	is($run->($other), "$other: the configuration is good\n", 'when it has stopped they are free');
};

# ---- back-ends -------------------------------------------------------------------------------

# What is said of a back-end with these options.
sub of_backend
{
	my ($options, $listener, %opt) = @_;
	my ($out, $status, $took) = check(front($listener // '') . "backend inner { $options }\n", %opt);
	my @said = grep { !/^p: the configuration is good/ } split /\n/, $out;

	return (join("\n", @said), $status, $took);
}

subtest 'back-ends that answer otherwise' => sub {
	my $closed = free_port();
	my ($said, $status) = of_backend("hosts 127.0.0.1:$closed");
	is($said, "p:2:23: warning: hosts: 127.0.0.1:$closed: connection refused (is it started?)", 'one that does not run');
	is($status, 0, 'is a warning, for the other may be started later');

	($said) = of_backend('hosts nosuch.invalid:25');
	like($said, qr/^p:2:23: warning: hosts: the name nosuch\.invalid has no address: \S/, 'a name that is none');

	my $rude = SmtpSink->start(greeting => '554 5.7.1 go away');
	($said) = of_backend('hosts ' . $rude->addr);
	like($said, qr/^p:2:23: warning: hosts: \Q@{[ $rude->addr ]}\E: .*554 5\.7\.1 go away/, 'one that refuses us');

	my $odd = SmtpSink->start(greeting => { raw => "SSH-2.0-OpenSSH\r\n" });
	($said) = of_backend('hosts ' . $odd->addr);
	like($said, qr/^p:2:23: warning: hosts: \Q@{[ $odd->addr ]}\E: \S/, 'one that does not speak SMTP');

	($said) = of_backend('hosts ' . $sink->addr . '; tls required');
	is($said, 'p:2:23: warning: hosts: ' . $sink->addr . ': TLS is required, but STARTTLS is not offered', 'one without TLS');

	my $tls = SmtpSink->start(tls => { cert => $cert, key => $key });
	($said) = of_backend('hosts ' . $tls->addr . "; tls verify; tls_ca @{[ $certs->ca ]}");
	is($said, '', 'one with a certificate that is good is not spoken of');
	my $other = $certs->authority('other');
	($said) = of_backend('hosts ' . $tls->addr . "; tls verify; tls_ca $other");
	like($said, qr/^p:2:23: warning: hosts: \Q@{[ $tls->addr ]}\E: TLS: \S/, 'one whose certificate nobody vouches for');

	my $dir = temp_dir();
	($said) = of_backend('hosts ' . $sink->addr . "; auth_plaintext yes; auth_user u; auth_password_file %d/pw", '',
		prepare => sub { write_file("$_[0]/pw", "secret\n", 0600); chown +(getpwnam 'nobody')[2], -1, "$_[0]/pw" if is_root() });
	like($said, qr/^p:2:\d+: warning: auth_user: \Q@{[ $sink->addr ]}\E offers neither AUTH PLAIN nor AUTH LOGIN in clear \(try tls required\)$/,
		'one without AUTH');

	my $small = SmtpSink->start(caps => ['SIZE 1000000']);
	($said) = of_backend('hosts ' . $small->addr, 'max_message 10M');
	is($said, 'p:1:53: warning: max_message: back-end inner takes no more than 1000000 octets', 'one that takes less than we');
	($said) = of_backend('hosts ' . $small->addr);
	is($said, '', 'but a limit that nobody wrote is no mistake');
};

subtest 'no password is said' => sub {
	my $auth = SmtpSink->start(caps => ['AUTH PLAIN LOGIN']);
	my ($said) = of_backend('hosts ' . $auth->addr . "; auth_plaintext yes; auth_user u; auth_password_file %d/pw", '',
		prepare => sub { write_file("$_[0]/pw", "secret\n", 0600); chown +(getpwnam 'nobody')[2], -1, "$_[0]/pw" if is_root() });

	is($said, '', 'to a back-end that would take it');
	ok((wait_until { grep { /QUIT/ } $auth->commands }), 'which is left politely')
	    or diag explain [ $auth->commands ];
	is(scalar(grep { /AUTH/ } $auth->commands), 0, 'and heard of none');
};

subtest 'loops' => sub {
	my $port = free_port();
	my $two = free_port();
	my ($out, $status) = check("listener front { listen 127.0.0.1:$port; backend inner }\nbackend inner { hosts 127.0.0.1:$port }\n");

	like($out, qr/^p:2:23: hosts: 127\.0\.0\.1:$port is our own listener front, from which mail comes back to back-end inner: a loop \(name the next server\)$/m,
		'a back-end that is our own listener');
	is($status, 78, 'is an error');
	($out) = check("listener front { listen 0.0.0.0:$port; clients any; backend inner }\nbackend inner { hosts localhost:$port }\n");
	like($out, qr/^p:2:23: hosts: localhost:$port is our own listener front/m, 'by name, and where it listens on all addresses');
	my $dir = temp_dir();
	inbox("$dir");
	($out) = check("listener front { listen unix:%d/in/s; backend inner }\nbackend inner { hosts unix:%d/in/s }\n", dir => "$dir");
	like($out, qr/^p:2:23: hosts: unix:DIR\/in\/s is our own listener front/m, 'by a socket');
	($out) = check("listener a { listen 127.0.0.1:$port; backend x }\nlistener b { listen 127.0.0.1:$two; backend y }\n"
		. "backend x { hosts 127.0.0.1:$two }\nbackend y { hosts 127.0.0.1:$port }\n");
	is(scalar(() = $out =~ /: a loop /g), 2, 'and a loop over two of them');
	($out, $status) = check("listener a { listen 127.0.0.1:$port; backend x }\nlistener b { listen 127.0.0.1:$two; backend y }\n"
		. "backend x { hosts 127.0.0.1:$two }\nbackend y { hosts @{[ $sink->addr ]} }\n");
	is($out, "p: the configuration is good\n", 'but two in a row that lead out are none');
};

# ---- what hangs ------------------------------------------------------------------------------

subtest 'what hangs' => sub {
	my $mute = SmtpSink->start(greeting => 'silent');
	my ($said, $status, $took) = of_backend('hosts ' . $mute->addr);
	like($said, qr/^p:2:23: warning: hosts: \Q@{[ $mute->addr ]}\E: \S/, 'a back-end that says nothing');
	cmp_ok($took, '<', 5 + $TestUtil::PATIENCE, 'is not waited for');
	my @mutes = map { SmtpSink->start(ehlo => 'silent') } 1 .. 3;
	($said, $status, $took) = of_backend('hosts ' . join ' ', map { $_->addr } @mutes);
	is(scalar(() = $said =~ /warning: hosts: /g), 3, 'of several each is told');
	cmp_ok($took, '<', 5 + $TestUtil::PATIENCE, 'and they take no longer together');
	is($status, 0, 'as warnings');
};

subtest 'a helper that is not there' => sub {
	my $alone = temp_dir();
	local $program = "$alone/postern";
	system 'cp', File::Spec->rel2abs(TestProxy::program(bless { dir => $home }, 'TestProxy')), "$alone/postern";
	my ($out, $status) = check("${good}dummy slow { timeout 1s }\ndefault_chain slow\n");
	plan skip_all => 'a helper is installed' if $out =~ /is good$/;

	like($out, qr/^p:3:1: warning: dummy slow: \Q$whose\E cannot run its helper program \S+: No such file or directory$/m,
		'is told, at the filter that may need it');
	is($status, 0, 'as a warning');
};

subtest 'a file that hangs' => sub {
	plan skip_all => 'needs a file system of its own' unless is_root() && -x '/usr/bin/perl';
	# A FIFO that nobody writes to: who opens it waits for ever.
	my ($said, $status, $took) = of_backend('hosts ' . $sink->addr . '; tls verify; tls_ca %d/ca.pem', '',
		prepare => sub { system 'mkfifo', '-m', '644', "$_[0]/ca.pem" });
	like($said, qr/^p:2:\d+: warning: looking at DIR\/ca\.pem took longer than 3 seconds and was given up$/m, 'is named');
	cmp_ok($took, '<', 6 + $TestUtil::PATIENCE, 'and given up');
};

# ---- the effective configuration ---------------------------------------------------------------

subtest 'where values come from' => sub {
	my $dir = temp_dir();
	mkdir "$dir/conf.d";
	write_file("$dir/conf.d/a.conf", "# ours\nlistener front {\n\tlisten 127.0.0.1:10025\n\tinclude ../common\n}\n");
	write_file("$dir/conf.d/b.conf", "listener next { listen 127.0.0.1:10027; include ../common; max_hops 7 }\nworkers 2\n");
	write_file("$dir/common", "\nbackend inner\nmax_message 1M\n");
	write_file("$dir/p", "include conf.d/*.conf\nlog { level debug }\nbackend inner { discard yes }\n");
	my $out = `cd '$dir' && '$program' -T -c p 2>&1`;
	my %from = map { /^\t?(\S+(?: \S+ \{| \{)?).*# (\S+:\d+)$/ ? ("$1 $2" => 1) : () } split /\n/, $out;

	ok($from{$_}, $_) or diag $out for 'workers conf.d/b.conf:2', 'listener front { conf.d/a.conf:2', 'listen conf.d/a.conf:3',
	    'listener next { conf.d/b.conf:1', 'max_hops conf.d/b.conf:1', 'backend inner { p:3', 'discard p:3', 'log { p:2', 'level p:2';
	is(scalar(() = $out =~ m{^\tbackend +inner .*# conf\.d/\.\./common:2$}mg), 2, 'what two blocks include comes from the same line');
	is(scalar(() = $out =~ m{^\tmax_message +1M .*# conf\.d/\.\./common:3$}mg), 2, 'and so on');
	like($out, qr/^#spool \{ .*# not written\n#\t#directory .*# default$/m, 'a block that nobody wrote has defaults');
	like($out, qr/^#user .*# not set$/m, 'and what has no default is not set');
	write_file("$dir/p", "include conf.d/*.conf\nlog { level debug }\nbackend inner { discard maybe }\n");
	$out = `cd '$dir' && '$program' -T -c p 2>/dev/null`;
	is("$out" . ($? >> 8), '78', 'with an error nothing is printed: no value can stand for the wrong one');
};

done_testing;
