#!/usr/bin/perl
# Whoever reads the log of a pipe, and stops, stops nobody: mail passes, what he does not read in time is counted, and
# what he gets are whole lines.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Fcntl qw(O_RDONLY O_NONBLOCK F_SETPIPE_SZ);
use POSIX ();
use Test::More;
use HttpClient;
use LogEvents;
use Metrics;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};

my $sink = SmtpSink->start;
my @running;
END { local $?; stop_process($_, 30) for splice @running }

# A postern of which only these two ports are known, for its log is not a file. $err: where its stderr goes.
sub started
{
	my ($log, $err, @args) = @_;
	my $self = { port => free_port(), health => free_port() };
	my $proxy = bless { dir => temp_dir(), owner => $$, finished => 1, conf => '' }, 'TestProxy';

	$proxy->write_conf("workers 2\nhealth { listen 127.0.0.1:$self->{health} }\n"
		. "listener front { listen 127.0.0.1:$self->{port}; backend inner }\nbackend inner { hosts @{[ $sink->addr ]} }\n$log\n");
	$self->{proxy} = $proxy;
	my @argv = ($proxy->program, '-c', $proxy->conf_file, @args);
	my $pid = $self->{pid} = fork // die "fork: $!";
	push @running, $pid;
	return $self if $pid;
	POSIX::setsid();
	open STDERR, '>&', $err or POSIX::_exit(126);
	{ no warnings; exec { $argv[0] } @argv; }
	POSIX::_exit(127);
}

sub stopped
{
	my ($self) = @_;

	@running = grep { $_ != $self->{pid} } @running;
	return stop_process($self->{pid}, 30);
}

sub client
{
	my ($self) = @_;

	wait_port("127.0.0.1:$self->{port}") or die 'postern does not start';
	my $c = SmtpClient->connect("127.0.0.1:$self->{port}");
	$c->ehlo;
	return $c;
}

sub lost
{
	my ($self) = @_;
	my $page = HttpClient::get("127.0.0.1:$self->{health}", '/metrics')->{body};

	return Metrics->parse($page)->value('postern_log_lines_lost_total');
}

# Mail until lines are lost, over both workers: whoever waits for the reader gives no reply.
sub fill
{
	my ($self) = @_;
	my @clients = map { client($self) } 1 .. 4;
	my ($sent, $replies) = (0, 0);

	wait_until {
		$sent += @clients;
		$replies += $_->send_message == 250 for @clients;
		$replies < $sent || lost($self) > 0;
	} 60;
	is($replies, $sent, 'all mail passes');
	cmp_ok(lost($self), '>', 0, 'the metric counts the lines that are lost');
	return;
}

# As small as can be; and large enough for whatever is left, before it is read.
sub small_pipe
{
	pipe my $out, my $in or die "pipe: $!";
	fcntl $in, F_SETPIPE_SZ, 4096 or die "F_SETPIPE_SZ: $!";
	$out->blocking(0);
	return ($out, $in);
}

sub widen { my ($fh) = @_; fcntl $fh, F_SETPIPE_SZ, 1 << 20 or die "F_SETPIPE_SZ: $!"; return }

# All that comes, until it has come.
sub read_until
{
	my ($out, $re) = @_;
	my $text = '';

	wait_until { 1 while sysread $out, $text, 65536, length $text; $text =~ $re };
	return $text;
}

sub whole_lines
{
	my ($text) = @_;
	my @lines = $text =~ /^(.*)\n/mg;
	my @faults = map { LogEvents::fault($_) // () } @lines;

	cmp_ok(scalar @lines, '>', 10, 'there are lines');
	is("@faults[0 .. ($#faults > 2 ? 2 : $#faults)]", '', 'each is whole');
	return;
}

subtest 'stderr is a pipe that is not read' => sub {
	my ($out, $in) = small_pipe();
	my $self = started('', $in, '-f', '-v');

	fill($self);
	kill 'HUP', $self->{pid};
	is(client($self)->send_message, 250, 'mail passes, too, while the log is opened again');
	my $c = client($self);
	my $text = '';
	widen($out);
	wait_until { 1 while sysread $out, $text, 65536, length $text; $c->noop; $text =~ / log_lost lines=\d+$/m };
	like($text, qr/^warn \S+ log_lost lines=\d+$/m, 'once it is read, it says how many were lost');
	kill 'TERM', $self->{pid};
	$text .= read_until($out, qr/ stopped /);
	like($text, qr/^info a stopped /m, 'and tells the rest');
	is(stopped($self), 0, 'it ends in order');
	whole_lines($text);
};

subtest 'a log file that is a FIFO' => sub {
	my $dir = temp_dir();
	my ($uid, $gid) = (getpwnam 'nobody')[2, 3];
	my $err = write_file("$dir/err", '');

	POSIX::mkfifo("$dir/fifo", 0600) or die "mkfifo: $!";
	chown $uid, $gid, "$dir/fifo" if is_root();
	open my $to_err, '>>', $err or die "$err: $!";
	my $self = started("log { to $dir/fifo }", $to_err, '-F', '-v');
	my $ended = wait_until { waitpid($self->{pid}, POSIX::WNOHANG()) == $self->{pid} };
	ok($ended, 'without a reader it does not start') and @running = ();
	like(read_file($err), qr/^postern: log \Q$dir\E\/fifo: nobody reads this FIFO /m, 'and says so');

	sysopen my $out, "$dir/fifo", O_RDONLY | O_NONBLOCK or die "open: $!";
	$self = started("log { to $dir/fifo }", $to_err, '-F', '-v');
	fcntl $out, F_SETPIPE_SZ, 4096 or die "F_SETPIPE_SZ: $!";
	fill($self);
	close $out;
	kill 'HUP', $self->{pid};
	is(client($self)->send_message, 250, 'mail passes when the reader is gone, and the log is to be opened again');
	sysopen $out, "$dir/fifo", O_RDONLY | O_NONBLOCK or die "open: $!";
	my $c = client($self);
	my $text = '';
	wait_until { 1 while sysread $out, $text, 65536, length $text; $c->noop; $text =~ / log_lost lines=\d+$/m };
	like($text, qr/ log_lost lines=\d+$/m, 'another reader gets lines again');
	is(stopped($self), 0, 'it ends in order');
};

done_testing;
