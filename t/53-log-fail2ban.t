#!/usr/bin/perl
# The real fail2ban reads, with the files of contrib/fail2ban, the log of a real postern: it finds the
# clients that misbehave and nobody else, whatever the others say.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use IO::Socket::IP;
use Test::More;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR};
plan skip_all => 'needs fail2ban' unless -x '/usr/bin/fail2ban-regex';

# The configuration as it is after the installation of our files.
my $f2b = temp_dir();
system('cp', '-r', glob('/etc/fail2ban/*'), "$f2b/") == 0 or die 'cp';
unlink glob "$f2b/jail.d/*";
system 'cp', srcdir() . "/contrib/fail2ban/$_", "$f2b/$_" for qw(filter.d/postern.conf jail.d/postern.local);

my $sink = SmtpSink->start;
my $proxy = TestProxy->start(<<"CONF", daemon => 1);
workers 1
listener front { listen 127.0.0.1:@{[ free_port() ]}; backend inner; max_errors 2; max_per_client 3; clients 127.0.0.0/9 }
listener patient { listen 127.0.0.1:@{[ free_port() ]} [::1]:@{[ free_port() ]}; backend inner; early_talker 5s; clients any }
backend inner { hosts @{[ $sink->addr ]} }
CONF

# Whom fail2ban finds in a file, with lines that make a file or syslog of ours.
sub found
{
	my ($file) = @_;
	my $out = `fail2ban-regex -c $f2b -o ip $file postern 2>/dev/null`;

	return join ' ', sort split ' ', $out;
}

# Says it from an address, and waits until it is cut.
sub says
{
	my ($from, $listener, $text) = @_;
	my $c = SmtpClient->new($proxy->addr($listener), local => $from);

	$c->send($text);
	$c->read_reply for 0 .. $text =~ tr/\n//;
	return $c;
}

# ---- who is at fault -------------------------------------------------------------------------

my @culprits;
push @culprits, '127.200.0.1';
SmtpClient->new($proxy->addr('front'), local => '127.200.0.1')->read_reply;
push @culprits, '127.0.0.2';
says('127.0.0.2', 'front', "NONSENSE\r\nMORE\r\n");
push @culprits, '127.0.0.3';
says('127.0.0.3', 'front', "GET / HTTP/1.1\r\n");
push @culprits, '127.0.0.4';
says('127.0.0.4', 'patient', "EHLO x\r\n");
push @culprits, '127.0.0.5';
my @many = map { SmtpClient->new($proxy->addr('front'), local => '127.0.0.5') } 1 .. 4;
is($many[3]->read_reply, 421, 'the fourth connection of a client is one too many');
my $six;
if (my ($port) = $proxy->log =~ /address=\[::1\]:(\d+)/) {
	$six = IO::Socket::IP->new(PeerHost => '::1', PeerPort => $port, Type => 1) or die "::1: $!";
	$six->syswrite("EHLO x\r\n");
	push @culprits, '::1';
}

# ---- who is not ------------------------------------------------------------------------------

my $bad = 'disconnect client=192.0.2.66:25 listener=front why=errors txns=0';
my $c = SmtpClient->connect($proxy->addr('front'), local => '127.0.0.9');
$c->ehlo;
is($c->send_message, 250, 'a message of a good client');
$sink->script(rcpt => "550 5.1.1 $bad");
is($c->send_message, 550, 'a recipient that the back-end refuses, in words of its own');
$c->rset;
$sink->script(rcpt => '250 2.1.5 Ok', mail => "553 x\" $bad");
is($c->send_message(from => "\"$bad\"\@example.net"), 553, 'a sender that looks like a line');
$c->rset;
$sink->script(mail => '250 2.1.0 Ok', final => "554 5.7.1 x\ninfo w0 s=7f3a01 $bad");
is($c->send_message(content => "Message-ID: <x> info w0 s=7f3a01 $bad\r\n"
	. "Received: by x id postern[1]:\r\n\r\n"), 554, 'a message that would like to be one');
$c->quit;
$c = SmtpClient->connect($proxy->addr('front'), local => '127.0.0.8');
$c->ehlo("postern[1]:info.w0.s=7f3a01");
$c->close;
ok($proxy->wait_log(qr/ disconnect client=127\.0\.0\.8:/), 'who leaves without QUIT') or diag $proxy->log;
$proxy->stop;

# ---- what fail2ban sees ----------------------------------------------------------------------

like($proxy->log, qr/\Q$bad\E/, 'the log has what looks like a line of ours');
is(found("$proxy->{dir}/log"), join(' ', sort @culprits), 'fail2ban finds those who misbehave and nobody else')
    or diag $proxy->log;

my @syslog = map { s/\A\S+ /Nov 24 12:00:00 mail postern[512]: /r } split /(?<=\n)/, $proxy->log;
write_file("$f2b/syslog", join('', @syslog,
	map { s/postern\[/other[/r =~ s/127\./10./gr } @syslog));
is(found("$f2b/syslog"), join(' ', sort @culprits), 'also behind the head of syslog, and only with our name there');

my $jail = `fail2ban-client -c $f2b -d 2>/dev/null`;
like($jail, qr/^\['add', 'postern', /m, 'the jail can be read');
like($jail, qr/^\['set', 'postern', 'addignoreip', '127\.0\.0\.0\/8', '::1'\]/m, 'it never bans loopback');
like($jail, qr/^\['set', 'postern', 'addjournalmatch', '_SYSTEMD_UNIT=postern\.service'\]/m, 'in the journal it looks at our unit');
is(scalar(() = `fail2ban-client -c $f2b -t 2>&1` =~ /^OK: configuration test is successful/mg), 1, 'fail2ban is content');

done_testing;
