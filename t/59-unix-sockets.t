#!/usr/bin/perl
# Listeners on Unix sockets: who may connect, and what becomes of the file.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use IO::Socket::UNIX;
use POSIX ();
use SmtpClient;
use TestProxy;
use TestUtil;

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};

my $back = "backend inner { discard yes }\n";

sub conf { return "listener front { listen unix:%d/in; backend inner; @_ }\n$back" }

# Mode, owner and group of the file, as ls shows them.
sub rights
{
	my ($path) = @_;
	my @st = lstat $path or return "$!";

	return sprintf '%04o %s %s', $st[2] & 07777, scalar(getpwuid $st[4]), scalar(getgrgid $st[5]);
}

# Can a user who is not root connect, with this group?
sub may_connect
{
	my ($path, $user, $group) = @_;
	my $pid = fork // die "fork: $!";

	if ($pid == 0) {
		my ($uid, $gid) = ((getpwnam $user)[2], scalar getgrnam $group);
		($(, $)) = ($gid, "$gid $gid");
		POSIX::setuid($uid);
		POSIX::_exit(IO::Socket::UNIX->new(Peer => $path) ? 0 : 1);
	}
	local $?;
	waitpid $pid, 0;
	return $? == 0;
}

# What a start says that must fail; the folder is DIR in it. @wrap stands in front of the program.
sub failing
{
	my ($conf, $prepare, $wrap) = @_;
	local $ENV{POSTERN_WRAP} = $wrap // '';
	my $proxy = TestProxy->start($conf, args => ['-t'], no_wait => 1);

	$proxy->stop;
	$prepare->($proxy->dir) if $prepare;
	write_file($proxy->dir . '/log', '', 0666);
	$proxy->run;
	wait_until { !$proxy->is_running };
	my $out = $proxy->log =~ s/\Q@{[ $proxy->dir ]}\E/DIR/gr;
	is(($proxy->{status} // 0) >> 8, 78, 'the start fails');
	return ($out, $proxy->dir);
}


my ($me, $mine) = (scalar getpwuid $>, scalar getgrgid $) + 0);

subtest 'the mode' => sub {
	for my $mode ('0600', '0660', '666', '0200', '0777') {
		my $proxy = TestProxy->start(conf("socket_mode $mode"));
		my $want = sprintf '%04o', oct $mode;

		is(rights($proxy->dir . '/in'), "$want $me $mine", "$mode is what the file gets");
		is($proxy->client->send_message, 250, 'mail passes');
	}
};

subtest 'owner and group' => sub {
	plan skip_all => 'only root can give a socket away' unless is_root();
	my ($user, $group) = ('daemon', 'mail');
	getpwnam $user && getgrnam $group or plan skip_all => "needs user $user and group $group";
	my $proxy = TestProxy->start(conf("socket_mode 0660; socket_owner $user; socket_group $group"));
	my $path = $proxy->dir . '/in';

	is(rights($path), "0660 $user $group", 'are those that were asked for');
	ok(may_connect($path, 'bin', $group), 'who is of the group may connect');
	ok(may_connect($path, $user, 'nogroup'), 'the owner may');
	ok(!may_connect($path, 'bin', 'nogroup'), 'others may not');
	$proxy->kill_all;
	ok(-S $path, 'a crash leaves the file');
	$proxy->restart;
	is(rights($path), "0660 $user $group", 'the next start makes it anew');
	is($proxy->client->send_message, 250, 'and mail passes');
	$proxy->stop;
	ok(!-e $path, 'an orderly stop removes it');

	is(rights(TestProxy->start(conf("socket_group $group"))->dir . '/in'), "0666 root $group", 'a group alone');
	is(rights(TestProxy->start(conf("socket_owner $user"))->dir . '/in'), "0666 $user root", 'an owner alone');
};

subtest 'started by a user' => sub {
	my $wrap = '';
	if (is_root()) {
		`setpriv --version 2>&1` =~ /util-linux/ or plan skip_all => 'needs setpriv';
		$wrap = 'setpriv --reuid=nobody --regid=nogroup --clear-groups';
		($me, $mine) = ('nobody', 'nogroup');
	}
	{
		local $ENV{POSTERN_WRAP} = $wrap;
		my $proxy = TestProxy->start(conf("socket_mode 0660; socket_owner $me; socket_group $mine"));
		is(rights($proxy->dir . '/in'), "0660 $me $mine", 'what is its own it may name');
	}
	for my $what ('socket_owner root', 'socket_group root') {
		my ($out, $dir) = failing(conf($what), undef, $wrap);
		like($out, qr{^postern: listener front: cannot listen on unix:DIR/in: only root can give the socket to another}m,
			"$what is more than it can do");
		ok(!-e "$dir/in", 'and nothing is left of it');
	}
};

subtest 'names that are none' => sub {
	like((failing(conf('socket_owner no-such-user')))[0],
		qr/^postern: listener front: socket_owner: there is no user "no-such-user"$/m, 'of a user');
	like((failing(conf('socket_group no-such-group')))[0],
		qr/^postern: listener front: socket_group: there is no group "no-such-group"$/m, 'of a group');
};

subtest 'what stands there already' => sub {
	my $other;
	my ($out) = failing(conf(''), sub {
		$other = IO::Socket::UNIX->new(Local => "$_[0]/in", Listen => 5) or die "$!";
		chmod 0777, "$_[0]/in";
	});
	like($out, qr{: cannot listen on unix:DIR/in: already in use by a running process$}m, 'a live socket is an error');
	($out) = failing(conf(''), sub { write_file("$_[0]/in", 'precious') });
	like($out, qr{: cannot listen on unix:DIR/in: a file that is not a socket is in the way$}m, 'a file is one');
	($out) = failing(conf(''), sub { symlink 'elsewhere', "$_[0]/in" });
	like($out, qr{: cannot listen on unix:DIR/in: a file that is not a socket is in the way$}m, 'a link is one');

	my $proxy = TestProxy->start(conf('socket_mode 0660'));
	my $second = TestProxy->start("listener front { listen unix:@{[ $proxy->dir ]}/in; backend inner }\n$back", no_wait => 1);
	ok(wait_until { !$second->is_running }, 'a second postern on the same socket does not start');
	like($second->log, qr/already in use by a running process/, 'and says why');
	is($proxy->client->send_message, 250, 'the first is not disturbed');
};

done_testing;
