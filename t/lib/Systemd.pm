# Systemd - a systemd of its own that runs real units, and leaves nothing on this machine.
#
#   my $systemd = Systemd->new(dir => $root);       # what is in $root lies over this machine's files
#   $systemd->boot;
#   my ($status, $text) = $systemd->run('systemctl start postern');
#
# It is process 1 of namespaces of its own. Its root is an overlay: this machine's files, and whatever is written
# goes into memory. The network is that of this machine. No unit is started but those that are asked for.
package Systemd;
use strict;
use warnings;
use TestUtil;

sub unavailable
{
	return 'needs root' unless is_root();
	return 'needs systemd' unless -x '/lib/systemd/systemd';
	return 'needs namespaces' if system('unshare -m -p -f -u -i -C true 2>/dev/null') != 0;
	return 'needs cgroups, version 2' unless cgroups();
	my $dir = temp_dir();
	return 'needs overlay file systems' if system("unshare -m sh -c 'mount -t tmpfs t $dir && mkdir $dir/u $dir/w $dir/r && "
	    . "mount -t overlay o -o lowerdir=/,upperdir=$dir/u,workdir=$dir/w $dir/r' 2>/dev/null") != 0;
	return;
}

# Where this machine has its groups of processes.
sub cgroups
{
	my ($found) = grep { -e "$_/cgroup.procs" } '/sys/fs/cgroup', '/sys/fs/cgroup/unified';

	return $found;
}

# Arguments: dir (a folder of files to be there), share (a folder of this machine that it sees as it is).
sub new
{
	my ($class, %opt) = @_;

	return bless { %opt, own => temp_dir(), owner => $$, group => cgroups() . "/postern-test-$$" }, $class;
}

sub boot
{
	my ($self) = @_;
	my $own = "$self->{own}";

	mkdir $self->{group} or die "mkdir $self->{group}: $!";
	write_file("$own/boot", $self->script);
	write_file("$own/console", '');
	$self->{pid} = start_process("$own/log", 'sh', '-c', "echo \$\$ >$self->{group}/cgroup.procs && "
	    . "exec setpriv --pdeathsig KILL unshare --kill-child -m -p -f -u -i -C sh $own/boot");
	$self->{init} = wait_until { `pgrep -P $self->{pid}` =~ /^(\d+)$/m && (read_file("/proc/$1/comm") // '') eq "systemd\n" ? $1 : 0 } 20
	    or die "systemd does not start:\n" . read_file("$own/log");
	wait_until { ($self->run('systemctl is-system-running'))[1] =~ /running|degraded/ } 20
	    or die "systemd does not get up:\n", $self->run("systemctl is-system-running; systemctl list-jobs; systemctl list-units; ls /run/systemd"), read_file("$own/console");
	return $self;
}

# What becomes process 1. The first lines make the root, the others what every system has.
sub script
{
	my ($self) = @_;
	my $own = "$self->{own}";
	my $share = $self->{share} ? "mkdir -p \$R$self->{share} && mount --bind $self->{share} \$R$self->{share}" : ':';

	return <<"BOOT";
set -e
mount --make-rprivate /
mount -t tmpfs none /mnt
mkdir /mnt/upper /mnt/work /mnt/root
cp -a $self->{dir}/. /mnt/upper/
chmod 755 /mnt/upper
R=/mnt/root
mount -t overlay none -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work \$R
mount -t proc proc \$R/proc
mount -t tmpfs none \$R/run
mount -t sysfs sysfs \$R/sys
mount -t tmpfs none \$R/sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 none \$R/sys/fs/cgroup
mount -t tmpfs -o mode=755 none \$R/dev
cd \$R/dev
for node in null zero full random urandom tty; do
	touch \$node
	mount --bind /dev/\$node \$node
done
mkdir pts shm mqueue
mount -t devpts none pts
mount -t mqueue none mqueue
ln -s pts/ptmx ptmx
ln -s /proc/self/fd fd
touch console
$share
mount --bind $own/console console
cd \$R
rm -rf etc/systemd/system/*.wants lib/systemd/system/*.target.wants usr/lib/systemd/system/*.target.wants
printf '[Unit]\\nDefaultDependencies=no\\n' >etc/systemd/system/quiet.target
: >etc/machine-id
pivot_root . mnt
umount -l /mnt
mount --make-rshared /
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=quiet.target --log-target=console
BOOT
}

# Runs a command of the shell there. Returns its status and what it said.
sub run
{
	my ($self, $command) = @_;
	my @argv = ('nsenter', '-t', $self->{init}, '-m', '-p', '-u', '-i', '-C', '-r', '-w', 'env', '-i',
		'PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'sh', '-c', $command);
	my $pid = open my $out, '-|';

	die "fork: $!" unless defined $pid;
	unless ($pid) {
		open STDIN, '<', '/dev/null';
		open STDERR, '>&', \*STDOUT;
		exec @argv or POSIX::_exit(127);
	}
	local $/;
	my $text = <$out> // '';
	local $?;
	close $out;
	return ($? >> 8, $text);
}

# A property of a unit.
sub property
{
	my ($self, $unit, $name) = @_;
	my ($status, $text) = $self->run("systemctl show -P $name $unit");

	return $text =~ s/\n\z//r;
}

sub stop
{
	my ($self) = @_;
	my $pid = delete $self->{pid} or return;

	kill 'KILL', $self->{init} if $self->{init};	# and with it all that it runs
	stop_process($pid, 5);
	wait_until { system("find $self->{group} -depth -type d -exec rmdir {} + 2>/dev/null"); !-d $self->{group} };
	return;
}

sub DESTROY
{
	my ($self) = @_;

	local $?;
	$self->stop if ($self->{owner} // 0) == $$;
	return;
}

1;
