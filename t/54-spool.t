#!/usr/bin/perl
# Where the content of a message is while it is under way, and what happens when there is no room.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};

my $sink = SmtpSink->start;
my $conf = "listener front { listen 127.0.0.1:0; backend inner }\nbackend inner { hosts @{[ $sink->addr ]} }\nworkers 1\n";

sub engine { my ($proxy) = @_; return (grep { (read_file("/proc/$_/comm") // '') =~ /engine/ } $proxy->children)[0] }
sub fds { my ($proxy) = @_; my $e = engine($proxy); return map { readlink } glob "/proc/$e/fd/*" }
sub visible { my ($dir) = @_; opendir my $d, $dir or return "$!"; return join ' ', grep { !/^\.\.?$/ } readdir $d }

# A message whose content came, but not its end.
sub begun
{
	my ($proxy, $octets) = @_;
	my $c = $proxy->client;

	$c->ehlo;
	$c->mail('a@example.net');
	$c->rcpt('b@example.org');
	$c->data;
	$c->send("\r\n" . ('x' x 62 . "\r\n") x ($octets / 64));
	return $c;
}

# ---- the folder ------------------------------------------------------------------------------

# What a start says that must fail. $prepare gets the folder of the test.
sub refusal
{
	my ($prepare) = @_;
	my $proxy = TestProxy->start($conf . "spool { directory %d/sp }\n", no_wait => 1, args => ['-t']);

	$proxy->stop;
	$prepare->($proxy->dir);
	write_file($proxy->dir . '/log', '', 0666);
	$proxy->run;
	wait_until { not $proxy->is_running };
	my $out = $proxy->log =~ s/\Q@{[ $proxy->dir ]}\E/DIR/gr;
	is(($proxy->{status} // 0) >> 8, 78, 'the start fails');
	return $out;
}

subtest 'the folder' => sub {
	my $proxy = TestProxy->start($conf . "spool { directory %d/sp }\n");
	my $dir = $proxy->dir . '/sp';

	is((stat $dir)[2] & 07777, 0700, 'is made, and only for the user');
	is(getpwuid((stat _)[4]), 'nobody', 'who is its owner') if is_root();
	$proxy->stop;
	is($proxy->restart->client->send_message, 250, 'the next start takes it as it is');
};

subtest 'a folder that others could use is refused' => sub {
	my $own = sub { my ($path) = @_; chown((getpwnam 'nobody')[2, 3], $path) if is_root() };

	like(refusal(sub { mkdir "$_[0]/sp"; $own->("$_[0]/sp"); chmod 0755, "$_[0]/sp" }),
		qr{^postern: spool directory: DIR/sp has mode 0755, mail needs 0700: chmod 0700 DIR/sp$}m, 'mode 0755');
	like(refusal(sub { mkdir "$_[0]/sp"; $own->("$_[0]/sp"); chmod 0770, "$_[0]/sp" }),
		qr{^postern: spool directory: DIR/sp has mode 0770, mail needs 0700: chmod 0700 DIR/sp$}m, 'mode 0770');
	like(refusal(sub { mkdir "$_[0]/real", 0700; $own->("$_[0]/real"); symlink 'real', "$_[0]/sp" }),
		qr{^postern: spool directory: DIR/sp is a symbolic link: name the real folder$}m, 'a symbolic link');
	like(refusal(sub { write_file("$_[0]/sp", '') }), qr{^postern: spool directory: DIR/sp is not a folder$}m, 'a file');
	SKIP: {
		skip 'only root can make a folder of another', 2 unless is_root();
		like(refusal(sub { mkdir "$_[0]/sp", 0700 }),
			qr{^postern: spool directory: DIR/sp belongs to user id 0 and not to ours, (\d+): chown \1 DIR/sp$}m,
			"another user's");
	}
};

# ---- content ---------------------------------------------------------------------------------

subtest 'small messages stay in memory' => sub {
	my $proxy = TestProxy->start($conf);
	my $spool = $proxy->dir . '/spool';
	my $c = begun($proxy, 60_000);

	ok($c->is_silent(0.1), 'one is under way');
	is(scalar(grep { m{^\Q$spool\E/} } fds($proxy)), 0, 'no file is open for it');
	$c->send(".\r\n");
	is($c->read_reply, 250, 'it passes');
};

subtest 'large ones go to files without a name' => sub {
	my $proxy = TestProxy->start($conf);
	my $spool = $proxy->dir . '/spool';
	my $files = sub { return scalar grep { m{^\Q$spool\E/.*\(deleted\)$} } fds($proxy) };
	my $c = begun($proxy, 1_000_000);

	ok(wait_until { $files->() == 1 }, 'one is open');
	is(visible($spool), '', 'nothing can be seen in the folder');
	$c->send(".\r\n");
	is($c->read_reply, 250, 'the message passes');
	ok(wait_until { $files->() == 0 }, 'and the file is gone');

	my @cut = map { begun($proxy, 500_000) } 1 .. 3;
	ok(wait_until { $files->() == 3 }, 'three are under way');
	$cut[0]->reset;
	$cut[1]->close;
	ok(wait_until { $files->() == 1 }, 'two clients go away, and their files');
	kill 'KILL', engine($proxy);
	ok($cut[2]->wait_eof, 'the engine dies in the middle of the third');
	is(visible($spool), '', 'it leaves nothing behind');
	is($proxy->client->send_message(content => "\r\n" . "again\r\n" x 100_000), 250, 'the next engine goes on');
};

subtest 'while large ones keep coming, a file is used again' => sub {
	my $proxy = TestProxy->start($conf);
	my $spool = $proxy->dir . '/spool';
	my $files = sub { return grep { m{^\Q$spool\E/.*\(deleted\)$} } fds($proxy) };
	my $c = begun($proxy, 1_000_000);

	ok(wait_until { $files->() == 1 }, 'the first has one');
	my ($first) = $files->();
	$c->send(".\r\n");
	is($c->read_reply, 250, 'and passes');
	$sink->new_txns;
	my $second = begun($proxy, 70_400);
	ok(wait_until { grep { $_ eq $first } $files->() }, 'the second has the same');
	is(scalar $files->(), 1, 'and no other');
	$second->send(".\r\n");
	is($second->read_reply, 250, 'and passes');
	my ($txn) = $sink->new_txns;
	is($txn->{content} =~ s/\A(?:\S.*\r\n(?:\s.*\r\n)*)*\r\n//r, 'x' x 62 . "\r\n" x 1 . ('x' x 62 . "\r\n") x 1099,
		'with its own octets and no other');
	ok(wait_until { $files->() == 0 }, 'soon after the last one it is gone');
};

subtest 'memory for small ones is bounded' => sub {
	my $proxy = TestProxy->start("${conf}spool { directory %d/sp; inline 64K; inline_total 150K }\n");
	my $spool = $proxy->dir . '/sp';
	my $files = sub { return scalar grep { m{^\Q$spool\E/} } fds($proxy) };
	my @under_way = map { begun($proxy, 60_000) } 1 .. 5;

	ok(wait_until { $files->() == 3 }, 'of five, those above inline_total go to files');
	$_->send(".\r\n") for @under_way;
	is(join(' ', map { $_->read_reply } @under_way), '250 250 250 250 250', 'all pass');
	ok(wait_until { $files->() == 0 }, 'no file is left');
	my $c = begun($proxy, 60_000);
	ok($c->is_silent(0.1), 'and the next one');
	is($files->(), 0, 'finds memory again');
};

subtest 'descriptors do not grow' => sub {
	# Without idle connections, whose number depends on chance.
	my $proxy = TestProxy->start($conf =~ s/hosts/max_idle 0; hosts/r);
	my $round = sub {
		my $c = $proxy->client;
		my @codes = map { $c->send_message(content => "\r\n" . "line\r\n" x (100 + 20_000 * ($_ % 2))) + 0 } 1 .. 20;
		begun($proxy, 200_000)->reset for 1 .. 5;
		$c->quit;
		return grep { $_ != 250 } @codes;
	};

	is(join(' ', $round->()), '', 'a round of messages and of abandoned ones');
	my $abandoned = sub { return scalar(() = $proxy->log =~ / msg .*verdict=abandoned/g) };
	ok(wait_until { $abandoned->() == 5 }, 'the log knows of the abandoned');
	my $before = () = fds($proxy);
	is(join(' ', $round->()), '', 'another one') for 1 .. 2;
	ok(wait_until { $abandoned->() == 15 && (() = fds($proxy)) <= $before }, 'as many descriptors as before');
};

# ---- no room ---------------------------------------------------------------------------------

# A file system of its own, as small as wanted. Dies with the reason when it cannot be had.
my @mounted;
END { system 'umount', '-l', "$_" for splice @mounted }

sub small_folder
{
	my ($options) = @_;
	my $dir = temp_dir();
	my ($uid, $gid) = (getpwnam 'nobody')[2, 3];

	die "needs root, to mount a small file system\n" unless is_root();
	local $?;
	system("mount -t tmpfs -o $options,mode=0700,uid=$uid,gid=$gid postern-test $dir 2>/dev/null") == 0
	    or die "mount is not allowed here\n";
	push @mounted, $dir;
	return $dir;
}

# Whether MAIL is taken or what else it is told; the room is looked at only once a second.
sub mail_says
{
	my ($c, @params) = @_;
	my $reply = $c->mail('a@example.net', @params);

	$c->rset;
	return $reply->raw;
}

my $no_room = "452 4.3.1 there is no room for the message, try again later\r\n";
my $not_spooled = "452 4.3.1 the message could not be spooled, try again later\r\n";
my $large = "\r\n" . "0123456789\r\n" x 600_000;

# A message whose content cannot be kept, by DATA and by BDAT; and the dialog is in step behind it.
sub is_refused_at_its_end
{
	my ($c, $content) = @_;

	is($c->send_message(content => $content)->raw, $not_spooled, 'DATA that does not fit gets 452 at its end');
	is($c->noop, 250, 'and the dialog is in step');
	for my $chunks ([], [ 100_000, 100_000, 2_000_000 ]) {
		$c->mail('a@example.net');
		$c->rcpt('b@example.org');
		is($c->bdat($content, @$chunks)->raw, $not_spooled, @$chunks + 1 . ' chunks do at the end of the last one');
		is($c->noop, 250, 'and the dialog is in step');
	}
	$c->send("MAIL FROM:<a\@example.net>\r\nRCPT TO:<b\@example.org>\r\nDATA\r\n");
	$c->expect($_) for 250, 250, 354;
	$c->send("$content.\r\nNOOP\r\nMAIL FROM:<a\@example.net>\r\nRCPT TO:<b\@example.org>\r\n");
	is(join(' ', map { $c->read_reply } 1 .. 4), '452 250 250 250', 'what is pipelined behind it is obeyed');
	is($c->rset, 250, 'and the session goes on');
	return;
}

subtest 'a full spool' => sub {
	my $dir = eval { small_folder('size=4m') } or plan skip_all => $@;
	my $proxy = TestProxy->start("${conf}spool { directory $dir; min_free 1M }\n");
	my $c = $proxy->client;
	my $arrived = $sink->count;

	is($c->send_message(content => "\r\n" . "0123456789\r\n" x 100_000), 250, 'what fits passes');
	is_refused_at_its_end($c, $large);
	ok($proxy->wait_log(qr/ spool err="?the spool is full/), 'the log says so');
	is($sink->count, $arrived + 1, 'and nothing of it is delivered');
	is($c->send_message, 250, 'then mail goes on in the same session');

	is(mail_says($c, 'SIZE=2000000'), "250 2.1.0 Ok\r\n", 'a SIZE that fits is taken');
	is(mail_says($c, 'SIZE=3200000'), $no_room, 'one that would leave less than min_free is refused at MAIL');
	is($c->send_message, 250, 'others are not');
	unlike($proxy->log, qr/ spool err="the spool has too little free space"/, 'and the log complains of nothing');

	write_file("$dir/ballast", 'x' x 3_500_000);
	ok(wait_until { mail_says($c) eq $no_room }, 'below min_free MAIL gets 452');
	is(mail_says($c, 'SIZE=100'), $no_room, 'with any SIZE');
	is($c->noop, 250, 'the session goes on');
	is($proxy->client->noop, 250, 'and new ones may begin');
	ok($proxy->wait_log(qr/ spool err="the spool has too little free space"/), 'the log says so');
	mail_says($c) for 1 .. 100;
	is(scalar(() = $proxy->log =~ / spool err="the spool has too/g), 1, 'once');
	unlink "$dir/ballast";
	ok(wait_until { mail_says($c) =~ /^250/ }, 'with room again mail is taken');
	ok($proxy->wait_log(qr/ spool state="there is room again"/), 'and the log says so');
	is($c->send_message(content => "\r\n" . "again\r\n" x 100_000), 250, 'and passes');
	$proxy->stop;
	is(visible("$dir"), '', 'nothing is left');
};

subtest 'no more inodes' => sub {
	my $dir = eval { small_folder('size=64m,nr_inodes=200') } or plan skip_all => $@;
	my $proxy = TestProxy->start("${conf}spool { directory $dir; min_free 1M }\n");
	my $c = $proxy->client;
	my $fill = sub { my ($n) = @_; open my $f, '>', "$dir/$_" or return for 1 .. $n };

	is($c->send_message(content => $large), 250, 'with some left mail passes');
	ok(wait_until { !grep { m{^\Q$dir\E/} } fds($proxy) }, 'and its file is gone');
	$c->mail('a@example.net');
	$c->rcpt('b@example.org');
	$fill->(1000);
	is($c->bdat($large, 1_000_000)->raw, $not_spooled, 'content that finds none gets 452');
	ok(wait_until { mail_says($c) eq $no_room }, 'and then MAIL does');
	ok($proxy->wait_log(qr/ spool err="the spool has too few free inodes"/), 'the log says so');
	unlink glob "$dir/*";
	ok(wait_until { mail_says($c) =~ /^250/ }, 'with some again mail is taken');
	is($c->send_message(content => $large), 250, 'and passes');

	$dir = eval { small_folder('size=4m,nr_inodes=64') } or plan skip_all => $@;
	$proxy = TestProxy->start("${conf}spool { directory $dir; min_free 1M }\n");
	is(mail_says($proxy->client), "503 5.5.1 say EHLO first\r\n", 'where there are never enough the session is served');
	$c = $proxy->client;
	$c->ehlo;
	is(mail_says($c), $no_room, 'but no mail is taken');
};

# Without root: a limit on the size of files. Writing fails in another way, and the rest is the same.
subtest 'files that may not grow' => sub {
	my $proxy = TestProxy->start($conf, limit => '-f 4000');
	my $c = $proxy->client;
	my $arrived = $sink->count;

	is($c->send_message(content => "\r\n" . "0123456789\r\n" x 100_000), 250, 'what fits passes');
	is_refused_at_its_end($c, $large);
	ok($proxy->wait_log(qr/^error .* spool err="cannot write to the spool: File too large"/m), 'the log says why');
	is($sink->count, $arrived + 1, 'nothing of it is delivered');
	is($c->send_message(content => "\r\n" . "again\r\n" x 100_000), 250, 'and mail goes on');
};

done_testing;
